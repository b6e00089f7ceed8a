#include "itp_qnet.h"

#include <stddef.h>

#define BODY "qnet_kernel_body.h"
#include "instruction_sets.h"

int qnet_kernels(qnet_kernel out[3])
{
    int n = 0;
#define ENTRY(kernel) ((qnet_kernel){#kernel, forward_one_##kernel, forward_tile_##kernel})
    ADD_KERNELS(out, n, ENTRY);
    return n;
}

#include "itp_setnet.h"

#include <stddef.h>

#define BODY "setnet_kernel_body.h"
#include "instruction_sets.h"

int setnet_kernels(setnet_kernel out[3])
{
    int n = 0;
#define ENTRY(kernel) ((setnet_kernel){#kernel, forward_##kernel})
    ADD_KERNELS(out, n, ENTRY);
    return n;
}

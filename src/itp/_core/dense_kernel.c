/* As in K. Goto and R. van de Geijn, "Anatomy of high-performance matrix multiplication", 2008: a panel of b
 * stays in the first-level cache while all of a passes by, and a block of c in registers while it is summed up.
 */
#include "dense_kernel.h"

#include <string.h>

#define ROWS 6               /* of a block: with WIDTH vectors each they fill the registers */
#define DEPTH 144            /* of a panel: at most 36 KiB */
#define PANEL (WIDTH *LANES) /* columns of a panel */

#define BODY "dense_kernel_body.h"
#include "instruction_sets.h"

int dense_kernels(dense_kernel out[3])
{
    int n = 0;
#define ENTRY(kernel) ((dense_kernel){#kernel, product_##kernel})
    ADD_KERNELS(out, n, ENTRY);
    return n;
}

/* The product of two float32 matrices. No library calls, no allocation, no global state: safe from any thread. */
#ifndef ITP_DENSE_KERNEL_H
#define ITP_DENSE_KERNEL_H

#include <stddef.h>

/* c = a b: a[rows][depth], b[depth][columns], c[rows][columns]. Strides count floats; a column's entries in a row
 * of c and of gate are neighbours. c overlaps no other matrix, and depth is at least 1. */
typedef struct {
    const float *a;
    const float *b;
    float *c;
    const float *gate; /* [rows][columns]: c is 0 where this is not positive; or NULL */
    ptrdiff_t rows;
    ptrdiff_t columns;
    ptrdiff_t depth;
    ptrdiff_t a_row;
    ptrdiff_t a_column;
    ptrdiff_t b_row;
    ptrdiff_t b_column;
    ptrdiff_t c_row;
    ptrdiff_t gate_row;
    int relu; /* c is 0 where it would be negative */
} dense_product;

typedef struct {
    const char *name;
    void (*product)(const dense_product *);
} dense_kernel;

/* The kernels this CPU can run, the fastest first; returns how many, at most 3. */
int dense_kernels(dense_kernel out[3]);

#endif

/* One kernel; included once per instruction set, which defines KERNEL, TARGET and LANES. */

/* Vectors of a block's row: AVX-512 and NEON have 32 registers, the others 16. */
#if LANES == 16 || defined(__ARM_NEON)
#define WIDTH 4
#else
#define WIDTH 2
#endif

typedef float VECTOR __attribute__((vector_size(4 * LANES), may_alias));

/* ROWS rows of a by the first `width` vectors of a panel; their sums stay in registers. */
TARGET static inline __attribute__((always_inline)) void FUNCTION(block)(
    const int width, const float *const *row, ptrdiff_t step, const float *panel, int depth, float *tile)
{
    VECTOR sum[ROWS][WIDTH];
    ptrdiff_t at = 0;
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < width; v++)
            sum[r][v] = (VECTOR){0};
    for (int k = 0; k < depth; k++, at += step, panel += PANEL)
        for (int r = 0; r < ROWS; r++)
            for (int v = 0; v < width; v++)
                sum[r][v] += ((const VECTOR *)panel)[v] * row[r][at];
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < width; v++)
            ((VECTOR *)tile)[r * WIDTH + v] = sum[r][v];
}

/* A piece of b, `deep` by `wide`, row by row, with zeros up to whole rows of a panel. */
TARGET static void FUNCTION(pack)(const dense_product *p, const float *b, int deep, int wide, float *panel)
{
    if (wide < PANEL)
        memset(panel, 0, sizeof(float) * PANEL * (size_t)deep);
    if (p->b_column == 1)
        for (int k = 0; k < deep; k++)
            memcpy(panel + k * PANEL, b + k * p->b_row, sizeof(float) * (size_t)wide);
    else
        for (int j = 0; j < wide; j++)
            for (int k = 0; k < deep; k++)
                panel[k * PANEL + j] = b[k * p->b_row + j * p->b_column];
}

/* One row of the product from a tile's; `c` holds the sums over what lies before `k`. */
TARGET static inline __attribute__((always_inline)) void FUNCTION(finish)(
    const dense_product *p, const float *restrict tile, ptrdiff_t i, ptrdiff_t j, ptrdiff_t k, int last, int wide)
{
    float *restrict c = p->c + i * p->c_row + j;
    if (k)
        for (int n = 0; n < wide; n++)
            c[n] += tile[n];
    else
        memcpy(c, tile, sizeof(float) * (size_t)wide);
    /* What is not a number stays so, for the end to show it. */
    if (last && p->relu)
        for (int n = 0; n < wide; n++)
            c[n] = c[n] < 0.0f ? 0.0f : c[n];
    if (last && p->gate)
        for (int n = 0; n < wide; n++)
            c[n] = p->gate[i * p->gate_row + j + n] > 0.0f ? c[n] : 0.0f;
}

TARGET static void FUNCTION(product)(const dense_product *p)
{
    float panel[DEPTH * PANEL] __attribute__((aligned(64)));
    float tile[ROWS * PANEL] __attribute__((aligned(64)));
    for (ptrdiff_t j = 0; j < p->columns; j += PANEL)
        for (ptrdiff_t k = 0; k < p->depth; k += DEPTH) {
            const int wide = p->columns - j < PANEL ? (int)(p->columns - j) : PANEL;
            const int deep = p->depth - k < DEPTH ? (int)(p->depth - k) : DEPTH;
            FUNCTION(pack)(p, p->b + k * p->b_row + j * p->b_column, deep, wide, panel);
            for (ptrdiff_t i = 0; i < p->rows; i += ROWS) {
                const float *row[ROWS];
                /* Past the end the last row stands in; its sums go nowhere. */
                for (int r = 0; r < ROWS; r++)
                    row[r] = p->a + (i + r < p->rows ? i + r : p->rows - 1) * p->a_row + k * p->a_column;
                if (wide <= LANES)
                    FUNCTION(block)(1, row, p->a_column, panel, deep, tile);
                else if (wide <= 2 * LANES)
                    FUNCTION(block)(2, row, p->a_column, panel, deep, tile);
                else
                    FUNCTION(block)(WIDTH, row, p->a_column, panel, deep, tile);
                for (int r = 0; r < ROWS && i + r < p->rows; r++)
                    FUNCTION(finish)(p, tile + r * PANEL, i + r, j, k, k + deep == p->depth, wide);
            }
        }
}

#undef VECTOR
#undef INTEGERS
#undef FUNCTION
#undef KERNEL
#undef TARGET
#undef LANES
#undef WIDTH

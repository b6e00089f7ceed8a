# Hints to the memory system: they change speed, never results, and do nothing where unknown.
cdef extern from * nogil:
    """
    #if defined(__linux__)
    #include <sys/mman.h>
    #endif
    #include <stdint.h>

    /* Large pages for the whole 4 KiB pages inside [start, start + size). */
    static inline void itp_advise_huge_pages(void* start, size_t size)
    {
    #if defined(MADV_HUGEPAGE)
        uintptr_t first = ((uintptr_t)start + 4095) & ~(uintptr_t)4095;
        uintptr_t last = ((uintptr_t)start + size) & ~(uintptr_t)4095;
        if (last > first)
            (void)madvise((void*)first, last - first, MADV_HUGEPAGE);
    #else
        (void)start, (void)size;
    #endif
    }

    #if defined(__GNUC__)
    #define itp_prefetch(address) __builtin_prefetch(address)
    #else
    #define itp_prefetch(address) ((void)(address))
    #endif
    """
    void advise_huge_pages "itp_advise_huge_pages"(void* start, size_t size)
    void prefetch "itp_prefetch"(const void* address)

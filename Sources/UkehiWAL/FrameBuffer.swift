// Hot path: allocated once, then reused.
//
// The memory that frames are written from, past the page cache: the device reads it where it lies. On
// ordinary pages the kernel pins and describes it 4 KiB at a time, and the device follows 256 descriptors
// for a frame of 1 MiB; on large ones a few. That is a third of such a write's time and half of its CPU
// time (docs/decisions/0010).

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// Block-aligned memory for one frame, reused.
///
/// Safety: used by the one thread that writes the frame it holds.
final class FrameBuffer: @unchecked Sendable {
    private(set) var base: UnsafeMutableRawPointer
    private(set) var capacity: Int
    private let prefersLargePages: Bool

    /// Memory up to this gains little by large pages, each of which takes 2 MiB.
    static let smallBytes = 128 << 10
    private static let largePageBytes = 2 << 20

    /// - Parameter prefersLargePages: For memory that is kept and written from again and again: past
    ///   ``smallBytes`` it is whole pages of 2 MiB, if the system has any.
    init(capacity: Int = 64 << 10, prefersLargePages: Bool = false) {
        self.prefersLargePages = prefersLargePages
        (base, self.capacity) = FrameBuffer.allocate(capacity, prefersLargePages)
    }

    deinit { base.deallocate() }

    /// Makes room for `byteCount` bytes; what was there is lost.
    func reserve(_ byteCount: Int) {
        guard byteCount > capacity else { return }
        resize(to: max(byteCount, min(capacity * 2, WALLimits.maxIdleBufferBytes)))
    }

    /// Makes room for at least `byteCount` bytes; what was in `range` stays.
    func grow(to byteCount: Int, keeping range: Range<Int>) {
        guard byteCount > capacity else { return }
        let old = base
        (base, capacity) = FrameBuffer.allocate(max(byteCount, 2 * capacity), prefersLargePages)
        (base + range.lowerBound).copyMemory(
            from: old + range.lowerBound, byteCount: range.count)
        old.deallocate()
    }

    /// Gives back what an unusually large frame took.
    func trim() {
        if capacity > WALLimits.maxIdleBufferBytes { resize(to: 64 << 10) }
    }

    private func resize(to byteCount: Int) {
        base.deallocate()
        (base, capacity) = FrameBuffer.allocate(byteCount, prefersLargePages)
    }

    private static func allocate(
        _ byteCount: Int, _ prefersLargePages: Bool
    ) -> (UnsafeMutableRawPointer, Int) {
        guard prefersLargePages, byteCount > smallBytes else {
            let capacity = FrameFormat.roundUp(byteCount)
            return (
                .allocate(byteCount: capacity, alignment: FrameFormat.blockBytes), capacity
            )
        }
        let capacity = (byteCount + largePageBytes - 1) & ~(largePageBytes - 1)
        let base = UnsafeMutableRawPointer.allocate(
            byteCount: capacity, alignment: largePageBytes)
        #if os(Linux)
            // Where it is refused, ordinary pages do.
            _ = madvise(base, capacity, MADV_HUGEPAGE)
        #endif
        return (base, capacity)
    }
}

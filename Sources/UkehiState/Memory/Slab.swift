// Hot path. Memory for the nodes and leaves of one tree.
//
//   chunk, 2 MiB | block | block | …      blocks of any class, cut off as they are asked for
//   free lists   one per class of 16 bytes, threaded through the freed blocks
//
// Large pages are asked for: a lookup of a random key among many touches four or five pages, and
// with small ones each costs a walk of the page table. Blocks over 4 KiB come from the C allocator.
// Chunks go back when the slab does.

import UkehiBase

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// A size-class allocator. Not thread-safe; a block is freed with the size it was asked for with.
final class Slab {
    private static let chunkBytes = 2 << 20
    private static let largestBlock = 4 << 10

    private var chunks: [UnsafeMutableRawPointer] = []
    private var next: UnsafeMutableRawPointer?
    private var left = 0
    private let freeLists: UnsafeMutablePointer<UnsafeMutableRawPointer?>

    init() {
        let classes = Slab.largestBlock / 16 + 1
        freeLists = .allocate(capacity: classes)
        freeLists.initialize(repeating: nil, count: classes)
    }

    deinit {
        for chunk in chunks { chunk.deallocate() }
        freeLists.deallocate()
    }

    /// A block of at least `byteCount` bytes at a multiple of 16.
    @inline(__always)
    func allocate(_ byteCount: Int) -> UnsafeMutableRawPointer {
        let sizeClass = (byteCount + 15) >> 4
        guard byteCount <= Slab.largestBlock else {
            return .allocate(byteCount: byteCount, alignment: 16)
        }
        if let block = freeLists[sizeClass] {
            freeLists[sizeClass] = block.load(as: UnsafeMutableRawPointer?.self)
            return block
        }
        return cut(sizeClass << 4)
    }

    private func cut(_ size: Int) -> UnsafeMutableRawPointer {
        if left < size { startChunk() }
        guard let block = next else { fatalError("a slab has no chunk") }
        next = block + size
        left -= size
        return block
    }

    private func startChunk() {
        // What is left of the last chunk is lost to it: at most one largest block.
        let chunk = UnsafeMutableRawPointer.allocate(
            byteCount: Slab.chunkBytes, alignment: Slab.chunkBytes)
        // Only a wish: without large pages everything works, a little slower.
        _ = madvise(chunk, Slab.chunkBytes, MADV_HUGEPAGE)
        chunks.append(chunk)
        next = chunk
        left = Slab.chunkBytes
    }

    @inline(__always)
    func free(_ block: UnsafeMutableRawPointer, _ byteCount: Int) {
        guard byteCount <= Slab.largestBlock else { return block.deallocate() }
        let sizeClass = (byteCount + 15) >> 4
        block.storeBytes(of: freeLists[sizeClass], as: UnsafeMutableRawPointer?.self)
        freeLists[sizeClass] = block
    }
}

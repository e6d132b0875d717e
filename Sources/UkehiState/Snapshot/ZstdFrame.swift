// zstd, one frame at a time (RFC 8878): a frame of a snapshot is exactly one of zstd's, which says
// how much it holds.
//
// Memory is bounded by what was checked, never by what zstd's own header claims: a frame is
// decompressed in one call into room of the size that the snapshot's checked frame header states, so
// that zstd needs no window of its own and stops where the room ends. The claims are compared
// nevertheless, so that every version-1 frame can be read by streaming readers, too, whose memory is
// the window.

private import CZstd
import UkehiBase

/// Compresses frames; the same bytes for the same input, level and version of zstd.
package final class ZstdCompressor {
    private let context: OpaquePointer
    private var target = UnsafeMutableRawBufferPointer(start: nil, count: 0)

    package init(level: Int) {
        guard let made = ZSTD_createCCtx() else { fatalError("zstd has no memory for a context") }
        context = made
        let result = ZSTD_CCtx_setParameter(made, ZSTD_c_compressionLevel, Int32(level))
        invariant(ZSTD_isError(result) == 0, "zstd refuses level \(level)")
    }

    deinit {
        ZSTD_freeCCtx(context)
        target.deallocate()
    }

    /// `raw` as one zstd frame, until the next call.
    package func compress(_ raw: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        let count = compress(raw, into: &target)
        return UnsafeRawBufferPointer(rebasing: target[..<count])
    }

    /// Makes `raw` one zstd frame at the beginning of `target`, which is allocated anew where it is too
    /// small; returns the frame's length.
    func compress(
        _ raw: UnsafeRawBufferPointer, into target: inout UnsafeMutableRawBufferPointer
    ) -> Int {
        let bound = SnapshotLimits.maxStoredBytes(of: raw.count)
        if target.count < bound {
            target.deallocate()
            target = .allocate(byteCount: bound, alignment: 16)
        }
        let count = ZSTD_compress2(
            context, target.baseAddress, target.count, raw.baseAddress, raw.count)
        invariant(ZSTD_isError(count) == 0, "zstd failed on \(raw.count) bytes within its bound")
        return count
    }
}

/// Decompresses frames.
package final class ZstdDecompressor {
    private let context: OpaquePointer

    package init() {
        guard let made = ZSTD_createDCtx() else { fatalError("zstd has no memory for a context") }
        context = made
    }

    deinit { ZSTD_freeDCtx(context) }

    /// Fills `raw` with what `stored` holds; false if that is not one frame of exactly as much.
    package func decompress(
        _ stored: UnsafeRawBufferPointer, into raw: UnsafeMutableRawBufferPointer
    ) -> Bool {
        guard Self.isPlain(stored, rawBytes: raw.count),
            ZSTD_findFrameCompressedSize(stored.baseAddress, stored.count) == stored.count
        else { return false }
        let count = ZSTD_decompressDCtx(
            context, raw.baseAddress, raw.count, stored.baseAddress, stored.count)
        return ZSTD_isError(count) == 0 && count == raw.count
    }

    /// Whether a zstd frame states the size of its content as `rawBytes`, needs no dictionary, and no
    /// window that is over the bound. (The library tells only the size through its stable interface.)
    private static func isPlain(_ stored: UnsafeRawBufferPointer, rawBytes: Int) -> Bool {
        guard stored.count > 6, stored.u32(at: 0) == 0xfd2f_b528 else { return false }
        let descriptor = stored[4]
        let isSingleSegment = descriptor & 0x20 != 0
        guard descriptor & 0x03 == 0 else { return false }
        if !isSingleSegment {
            let base = UInt64(1) << (10 + UInt64(stored[5] >> 3))
            let window = base + base / 8 * UInt64(stored[5] & 7)
            guard window <= SnapshotLimits.maxWindowBytes else { return false }
        }
        return ZSTD_getFrameContentSize(stored.baseAddress, stored.count) == UInt64(rawBytes)
    }
}

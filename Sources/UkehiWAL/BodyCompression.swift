// Hot path on the compressing side: no allocation in the steady state.
//
// A body as one LZ4 block.
//
//   lane      records -> compressed, if the body is large and that pays -> checksum -> frame
//   readers   stored bytes -> checksum -> decompressed, each body by itself
//
// The checksum is of the stored bytes, so that decompression works on what was written and nothing
// else; its own checks are for lies with right checksums. What a body says of its length is bounded
// before room is made for it (``BatchItem``).

private import CLZ4
import UkehiBase

enum BodyCompression {
    /// No LZ4 block becomes longer than this many times itself: a byte of it stands for 255 at most.
    static let maxRatio: UInt64 = 255
    /// The part of a body, one in so many bytes, that compression must save. Less would not save
    /// blocks of the disk, and bodies that do not compress are given up on sooner.
    static let leastSaving = 16

    /// Fills `raw` with what `stored` holds; false if that is not exactly as much.
    static func decompress(
        _ stored: UnsafeRawBufferPointer, into raw: UnsafeMutableRawBufferPointer
    ) -> Bool {
        guard let source = stored.baseAddress, let target = raw.baseAddress,
            let storedBytes = Int32(exactly: stored.count), let rawBytes = Int32(exactly: raw.count)
        else { return false }
        let count = LZ4_decompress_safe(
            source.assumingMemoryBound(to: CChar.self),
            target.assumingMemoryBound(to: CChar.self), storedBytes, rawBytes)
        return count == rawBytes
    }

    /// What `stored` holds, in memory of its own; nil if that is not `rawBytes`.
    static func decompressed(_ stored: Bytes, rawBytes: Int) -> Bytes? {
        var isWhole = false
        let raw = Bytes(count: rawBytes) { buffer in
            isWhole = stored.withUnsafeBytes { decompress($0, into: buffer) }
            return rawBytes
        }
        return isWhole ? raw : nil
    }
}

/// Compresses the bodies of one lane's batches.
///
/// Safety: belongs to one ``LogBatch``, which one thread at a time fills.
final class BodyCompressor: @unchecked Sendable {
    private let thresholdBytes: Int
    private var scratch: UnsafeMutableRawPointer
    private var capacity: Int
    /// Bodies that are left as they are before the next try: doubled by each that hardly shrank, so that
    /// noise costs next to nothing.
    private var toSkip = 0
    private var lastSkip = 0
    private static let maxSkip = 32

    init(thresholdBytes: Int) {
        self.thresholdBytes = thresholdBytes
        capacity = 64 << 10
        scratch = .allocate(byteCount: capacity, alignment: 16)
    }

    deinit { scratch.deallocate() }

    /// The body compressed, until the next call; nil if it is small, cannot be written anyway, or
    /// hardly shrinks, as those before it did.
    func compress(_ body: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
        guard body.count >= thresholdBytes, body.count <= WALLimits.maxBatchBytes,
            let source = body.baseAddress
        else { return nil }
        guard toSkip == 0 else {
            toSkip -= 1
            return nil
        }
        let allowed = body.count - max(body.count / BodyCompression.leastSaving, 1)
        if allowed > capacity { resize(to: max(allowed, capacity * 2)) }
        let count = LZ4_compress_default(
            source.assumingMemoryBound(to: CChar.self),
            scratch.assumingMemoryBound(to: CChar.self), Int32(body.count), Int32(allowed))
        guard count > 0 else {
            lastSkip = min(max(lastSkip * 2, 1), Self.maxSkip)
            toSkip = lastSkip
            return nil
        }
        lastSkip = 0
        return UnsafeRawBufferPointer(start: scratch, count: Int(count))
    }

    /// Gives back what an unusually large body took.
    func trim() {
        if capacity > WALLimits.maxIdleBufferBytes { resize(to: 64 << 10) }
    }

    private func resize(to byteCount: Int) {
        scratch.deallocate()
        capacity = byteCount
        scratch = .allocate(byteCount: byteCount, alignment: 16)
    }
}

/// Memory for one body at a time, of a reader that goes through many.
final class DecompressedBody {
    private var buffer = UnsafeMutableRawBufferPointer(start: nil, count: 0)

    deinit { buffer.deallocate() }

    /// What `stored` holds, until the next call; nil if that is not `rawBytes`.
    func decompress(_ stored: UnsafeRawBufferPointer, rawBytes: Int) -> UnsafeRawBufferPointer? {
        if buffer.count < rawBytes {
            buffer.deallocate()
            buffer = .allocate(byteCount: max(rawBytes, buffer.count * 2), alignment: 16)
        }
        let target = UnsafeMutableRawBufferPointer(rebasing: buffer[..<rawBytes])
        guard BodyCompression.decompress(stored, into: target) else { return nil }
        return UnsafeRawBufferPointer(target)
    }
}

extension BatchItem {
    /// What replay says of a body that passes its checksum and is no LZ4 block of its length.
    static let isNotDecompressed = "a compressed body that is not what it says"
}

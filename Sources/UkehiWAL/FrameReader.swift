// Reading frames: every length checked before it is used, no memory by a claimed size.
//
// A frame is valid at a place if its header's checksum is right, it names this segment, incarnation
// and offset, it lies inside the file, its directory's checksum is right and each body's too. What
// the header alone promises (which frames were durable when it was written) holds as soon as the
// header itself is valid.

import UkehiBase
import UkehiEnvironment

/// A frame; the memory is the reader's and changes with its next call.
struct FrameView {
    var header: FrameHeader
    var items: ContiguousArray<BatchItem>
    /// Positions of items whose bodies fail their checksums, ascending; none in a valid frame.
    var damaged: [Int] = []
    let base: UnsafeRawPointer
    /// The copy of the directory that passed its check.
    let directory: UnsafeRawPointer
    fileprivate var scratch: DecompressedBody

    /// Where the body of the item at `position` starts, from the frame's start.
    func bodyOffsets() -> ContiguousArray<Int> {
        var offsets = ContiguousArray<Int>()
        offsets.reserveCapacity(items.count)
        var at = header.bodyStart
        for item in items {
            offsets.append(at)
            at += Int(item.bodyBytes)
        }
        return offsets
    }

    /// What the item whose body starts at `offset` held when it was written; nil when it cannot be
    /// decompressed to what it says. Changes with the next call, too.
    func body(of item: BatchItem, at offset: Int) -> UnsafeRawBufferPointer? {
        let stored = UnsafeRawBufferPointer(start: base + offset, count: Int(item.bodyBytes))
        guard item.isCompressed else { return stored }
        return scratch.decompress(stored, rawBytes: Int(item.rawBytes))
    }
}

/// What is wrong with a frame, as far as it could be read.
struct FrameDefect: Hashable, Sendable {
    var reason: String
    /// Set when the header is valid for this place.
    var header: FrameHeader?
    /// The records whose own checks failed; empty when that is not known.
    var damaged: [BatchItem] = []
    /// The records that are intact.
    var intact: [BatchItem] = []
}

enum FrameCheck {
    case valid(FrameView)
    /// Header and a copy of the directory are sound, bodies or the other copy are not: what was
    /// written is known, if not all of it can be read.
    case rotten(FrameView, FrameDefect)
    case invalid(FrameDefect)
    /// Nothing but the end of the file.
    case end
}

/// Reads the frames of one segment through a window of the file.
///
/// One thread at a time. Memory: the window, 1 MiB, or the largest frame met, which is bounded by
/// the file's size; and the largest body decompressed, which is bounded by its stored bytes.
final class FrameReader {
    let file: any File
    let segment: UInt64
    let incarnation: UInt64
    /// Bytes that may be read: the file's size, or where the segment's end is stated to be.
    let limit: UInt64
    private let mayHoldCompressed: Bool
    private let mayHoldRewrites: Bool

    private let window = FrameBuffer(capacity: 1 << 20)
    private let scratch = DecompressedBody()
    private var windowStart: UInt64 = 0
    private var windowCount = 0

    init(file: any File, header: SegmentHeader, limit: UInt64) {
        self.file = file
        segment = header.segment
        incarnation = header.incarnation
        mayHoldCompressed = header.mayHoldCompressed
        mayHoldRewrites = header.mayHoldRewrites
        self.limit = limit
    }

    /// Reads from the file again what was read before.
    func forget() { windowCount = 0 }

    /// The frame at `offset`, all of it checked.
    func frame(at offset: UInt64) throws(FileError) -> FrameCheck {
        guard offset < limit else { return .end }
        guard let start = try bytes(at: offset, count: FrameFormat.headerBytes) else {
            return .invalid(FrameDefect(reason: "the file ends within a frame's header"))
        }
        guard let header = self.header(start, at: offset) else {
            return .invalid(FrameDefect(reason: "no valid frame header is there"))
        }
        guard UInt64(header.frameBytes) <= limit - offset,
            let base = try bytes(at: offset, count: header.frameBytes)
        else {
            return .invalid(
                FrameDefect(reason: "the file ends within the frame's body", header: header))
        }
        return check(header, base)
    }

    private func check(_ header: FrameHeader, _ base: UnsafeRawPointer) -> FrameCheck {
        var reason: String?
        var directory = base + FrameFormat.headerBytes
        if directoryChecksum(directory, header) != header.directoryChecksum {
            reason = "the frame's directory fails its checksum"
            let copy = base + (header.frameBytes - header.directoryBytes)
            guard header.flags & FrameFormat.repeatedFlag != 0,
                directoryChecksum(copy, header) == header.directoryChecksum
            else {
                return .invalid(FrameDefect(reason: reason ?? "", header: header))
            }
            directory = copy
        }
        var items = ContiguousArray<BatchItem>()
        items.reserveCapacity(header.itemCount)
        var damaged: [Int] = []
        var at = header.bodyStart
        let end = header.bodyStart + header.bodyBytes
        for position in 0..<header.itemCount {
            guard let item = BatchItem.decode(directory + position * FrameFormat.itemBytes),
                mayHoldCompressed || !item.isCompressed, mayHoldRewrites || item.kind != .rewrite,
                end - at >= Int(item.bodyBytes)
            else {
                return .invalid(
                    FrameDefect(
                        reason: "the frame's directory holds what this version does not know",
                        header: header))
            }
            let body = UnsafeRawBufferPointer(start: base + at, count: Int(item.bodyBytes))
            let seed = FrameFormat.bodySeed(region: item.region, firstIndex: item.firstIndex)
            if CRC32C.checksum(body, seed: seed) != item.bodyChecksum { damaged.append(position) }
            items.append(item)
            at += Int(item.bodyBytes)
        }
        if !damaged.isEmpty { reason = "\(damaged.count) of its bodies fail their checksums" }
        guard at == end else {
            return .invalid(
                FrameDefect(reason: "the frame's bodies do not add up", header: header))
        }
        let view = FrameView(
            header: header, items: items, damaged: damaged, base: base, directory: directory,
            scratch: scratch)
        guard let reason else { return .valid(view) }
        let intact = items.indices.filter { !damaged.contains($0) }.map { items[$0] }
        return .rotten(
            view,
            FrameDefect(
                reason: reason, header: header, damaged: damaged.map { items[$0] },
                intact: intact))
    }

    private func directoryChecksum(_ base: UnsafeRawPointer, _ header: FrameHeader) -> UInt32 {
        CRC32C.checksum(UnsafeRawBufferPointer(start: base, count: header.directoryBytes))
    }

    private func header(_ start: UnsafeRawPointer, at offset: UInt64) -> FrameHeader? {
        guard let header = FrameHeader.decode(start), header.segment == segment,
            header.incarnation == incarnation, header.offset == offset
        else { return nil }
        return header
    }

    /// The valid frame headers at block boundaries from `offset` on, whatever lies between.
    func headers(
        from offset: UInt64, _ found: (FrameHeader) throws(FileError) -> Void
    ) throws(FileError) {
        var at = offset
        while at < limit, limit - at >= UInt64(FrameFormat.headerBytes) {
            guard let start = try bytes(at: at, count: FrameFormat.headerBytes) else { return }
            if start.get(UInt32.self, at: 0) == FrameFormat.magic,
                let header = self.header(start, at: at)
            {
                try found(header)
            }
            at += UInt64(FrameFormat.blockBytes)
        }
    }

    /// The first valid frame header at a block boundary from `offset` on; nil if there is none.
    func firstHeader(from offset: UInt64) throws(FileError) -> FrameHeader? {
        var at = offset
        while at < limit, limit - at >= UInt64(FrameFormat.headerBytes) {
            guard let start = try bytes(at: at, count: FrameFormat.headerBytes) else { return nil }
            if let header = self.header(start, at: at) { return header }
            at += UInt64(FrameFormat.blockBytes)
        }
        return nil
    }

    /// `count` bytes at `offset`; nil when the file ends before.
    private func bytes(at offset: UInt64, count: Int) throws(FileError) -> UnsafeRawPointer? {
        let windowEnd = windowStart + UInt64(windowCount)
        if offset < windowStart || offset + UInt64(count) > windowEnd {
            window.reserve(count)
            windowStart = offset
            windowCount = 0
            let wanted = Int(min(UInt64(window.capacity), limit - offset))
            windowCount = try file.read(
                into: UnsafeMutableRawBufferPointer(start: window.base, count: wanted), at: offset)
            guard windowCount >= count else { return nil }
        }
        return UnsafeRawPointer(window.base) + Int(offset - windowStart)
    }
}

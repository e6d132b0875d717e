// Hot path: buffers, groups and batch memory are reused; nothing is allocated in the steady state.
//
// How batches become one frame. Under the log's lock the header and the directory are written, since
// the next frame's header names this one's checksum; the bodies are copied outside of it, while
// other frames are being written.

import UkehiBase

/// Block-aligned memory for one frame, reused.
///
/// Safety: used by the one thread that writes the frame it holds.
final class FrameBuffer: @unchecked Sendable {
    private(set) var base: UnsafeMutableRawPointer
    private(set) var capacity: Int

    init(capacity: Int = 64 << 10) {
        self.capacity = FrameFormat.roundUp(capacity)
        base = .allocate(byteCount: self.capacity, alignment: FrameFormat.blockBytes)
    }

    deinit { base.deallocate() }

    /// Makes room for `byteCount` bytes; what was there is lost.
    func reserve(_ byteCount: Int) {
        guard byteCount > capacity else { return }
        resize(to: max(byteCount, min(capacity * 2, WALLimits.maxIdleBufferBytes)))
    }

    /// Gives back what an unusually large frame took.
    func trim() {
        if capacity > WALLimits.maxIdleBufferBytes { resize(to: 64 << 10) }
    }

    private func resize(to byteCount: Int) {
        base.deallocate()
        capacity = FrameFormat.roundUp(byteCount)
        base = .allocate(byteCount: capacity, alignment: FrameFormat.blockBytes)
    }
}

/// Which tickets of a lane a group makes durable.
struct LaneTicket: Hashable, Sendable {
    var lane: Int
    var ticket: UInt64
}

/// Batches that share a frame: first collecting, then in flight, then done and reused.
///
/// Safety: collecting under the log's lock; in flight, only its writer touches `buffer` and only
/// reads the rest; afterwards under the lock again.
package final class Group: @unchecked Sendable {
    var storages: ContiguousArray<BatchStorage> = []
    /// The highest ticket of each lane.
    var tickets: ContiguousArray<LaneTicket> = []
    var itemCount = 0
    var bodyBytes = 0
    /// What a footer needs of the items beside themselves.
    private(set) var detailBytes = 0
    private(set) var holdsRewrites = false
    var lsn: UInt64 = 0

    // In flight:
    package private(set) var header = FrameHeader()
    var buffer: FrameBuffer?
    package private(set) var segment: SegmentFile?
    var isDone = false

    var frameBytes: Int {
        FrameFormat.frameBytes(itemCount: itemCount, bodyBytes: bodyBytes)
    }
    var isClaim: Bool { itemCount == 0 }

    func add(_ storage: BatchStorage, lane: Int, ticket: UInt64) {
        storages.append(storage)
        itemCount += storage.itemCount
        bodyBytes += storage.bodyBytes
        detailBytes += storage.detailBytes
        if storage.holdsRewrites { holdsRewrites = true }
        for position in tickets.indices where tickets[position].lane == lane {
            tickets[position].ticket = ticket
            return
        }
        tickets.append(LaneTicket(lane: lane, ticket: ticket))
    }

    /// Writes header and directory into `buffer`: everything that later frames depend on.
    func close(
        into buffer: FrameBuffer, segment: SegmentFile, offset: UInt64, durableLSN: UInt64,
        previousChecksum: UInt32
    ) {
        let size = frameBytes
        buffer.reserve(size)
        let directory = buffer.base + FrameFormat.headerBytes
        var at = directory
        for storage in storages {
            let length = storage.itemCount * FrameFormat.itemBytes
            at.copyMemory(from: storage.items, byteCount: length)
            at += length
        }
        header = FrameHeader()
        header.frameBytes = size
        header.flags =
            (isClaim ? FrameFormat.claimFlag : 0)
            | (FrameFormat.repeats(itemCount: itemCount) ? FrameFormat.repeatedFlag : 0)
        header.lsn = lsn
        header.durableLSN = durableLSN
        header.segment = segment.header.segment
        header.incarnation = segment.header.incarnation
        header.offset = offset
        header.previousChecksum = previousChecksum
        header.itemCount = itemCount
        header.bodyBytes = bodyBytes
        header.directoryChecksum = CRC32C.checksum(
            UnsafeRawBufferPointer(start: directory, count: header.directoryBytes))
        header.encode(to: buffer.base)
        self.buffer = buffer
        self.segment = segment
    }

    /// Copies the bodies behind the directory and finishes the frame's bytes.
    package func fill() -> UnsafeRawBufferPointer {
        guard let buffer else { return UnsafeRawBufferPointer(start: nil, count: 0) }
        var at = buffer.base + header.bodyStart
        for storage in storages {
            at.copyMemory(from: storage.body, byteCount: storage.bodyBytes)
            at += storage.bodyBytes
        }
        let repeated = FrameFormat.repeats(itemCount: itemCount) ? header.directoryBytes : 0
        let end = buffer.base + (header.frameBytes - repeated)
        at.initializeMemory(as: UInt8.self, repeating: 0, count: end - at)
        if repeated > 0 {
            end.copyMemory(from: buffer.base + FrameFormat.headerBytes, byteCount: repeated)
        }
        return UnsafeRawBufferPointer(start: buffer.base, count: header.frameBytes)
    }

    /// Runs `body` for each item with its slot and where its body starts in the segment.
    func forEachItem(_ body: (_ slot: Int, _ item: BatchItem, _ bodyOffset: Int) -> Void) {
        var offset = Int(header.offset) + header.bodyStart
        for storage in storages {
            for position in 0..<storage.itemCount {
                guard let item = BatchItem.decode(storage.item(at: position)) else {
                    invariant(false, "an item that was just encoded cannot be read")
                    return
                }
                body(Int(storage.slots[position]), item, offset)
                offset += Int(item.bodyBytes)
            }
        }
    }

    /// Makes the group ready to collect again.
    func reset() {
        storages.removeAll(keepingCapacity: true)
        tickets.removeAll(keepingCapacity: true)
        itemCount = 0
        bodyBytes = 0
        detailBytes = 0
        holdsRewrites = false
        buffer = nil
        segment = nil
        isDone = false
    }
}

// Hot path: buffers, groups and batch memory are reused; nothing is allocated in the steady state.
//
// How batches become one frame. Under the log's lock the header and the directory are written, since
// the next frame's header names this one's checksum; the bodies are copied outside of it, while
// other frames are being written.

import UkehiBase

/// Which tickets of a lane a group makes durable.
struct LaneTicket: Hashable, Sendable {
    var lane: Int
    var ticket: UInt64
}

/// Batches that share a frame: first collecting, then in flight, then done and reused.
///
/// Safety: collecting under the log's lock; in flight, only its writer touches the frame's memory and
/// only reads the rest; afterwards under the lock again.
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
    /// Nil where the frame is in its one batch's own memory.
    private(set) var buffer: FrameBuffer?
    /// The frame's first byte, while it is in flight.
    private(set) var base: UnsafeMutableRawPointer?
    package private(set) var segment: SegmentFile?
    var isDone = false

    var frameBytes: Int {
        FrameFormat.frameBytes(itemCount: itemCount, bodyBytes: bodyBytes)
    }
    var isClaim: Bool { itemCount == 0 }

    /// Whether the frame needs no buffer: its bodies lie where they are to be written from.
    var isInPlace: Bool {
        storages.count == 1 && storages[0].frameInPlace(frameBytes) != nil
    }

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

    /// Writes header and directory into `buffer`, or in place: everything that later frames depend on.
    func close(
        into buffer: FrameBuffer?, segment: SegmentFile, offset: UInt64, durableLSN: UInt64,
        previousChecksum: UInt32
    ) {
        let size = frameBytes
        buffer?.reserve(size)
        guard let base = buffer?.base ?? storages.first?.frameInPlace(size) else {
            return invariant(false, "frame \(lsn) has no memory")
        }
        let directory = base + FrameFormat.headerBytes
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
        header.encode(to: base)
        self.buffer = buffer
        self.base = base
        self.segment = segment
    }

    /// Copies the bodies behind the directory, if they are not there, and finishes the frame's bytes.
    package func fill() -> UnsafeRawBufferPointer {
        guard let base else { return UnsafeRawBufferPointer(start: nil, count: 0) }
        var at = base + header.bodyStart
        if buffer == nil {
            at += bodyBytes
        } else {
            for storage in storages {
                at.copyMemory(from: storage.body, byteCount: storage.bodyBytes)
                at += storage.bodyBytes
            }
        }
        let repeated = FrameFormat.repeats(itemCount: itemCount) ? header.directoryBytes : 0
        let end = base + (header.frameBytes - repeated)
        at.initializeMemory(as: UInt8.self, repeating: 0, count: end - at)
        if repeated > 0 {
            end.copyMemory(from: base + FrameFormat.headerBytes, byteCount: repeated)
        }
        return UnsafeRawBufferPointer(start: base, count: header.frameBytes)
    }

    /// Runs `body` for each item with its slot and where its body starts in the segment.
    func forEachItem(_ body: (_ slot: Int, _ item: BatchItem, _ bodyOffset: Int) -> Void) {
        var offset = Int(header.offset) + header.bodyStart
        for storage in storages {
            // Read once, not with a count of references for each item.
            let slots = storage.slots
            for position in 0..<storage.itemCount {
                guard let item = BatchItem.decode(storage.item(at: position)) else {
                    invariant(false, "an item that was just encoded cannot be read")
                    return
                }
                body(Int(slots[position]), item, offset)
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
        base = nil
        segment = nil
        isDone = false
    }
}

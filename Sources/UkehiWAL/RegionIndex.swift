// Hot path: no allocation per entry; arrays grow by doubling and are reused.
//
// Where a region's durable entries lie: blocks of consecutive entries, not entries.
//
// Blocks are in index order, and that is also log order: an append at i drops every block at and
// past i, so what remains before it was written before it. Hence the first block is in the oldest
// segment that the region's entries hold back.

import UkehiBase

/// One run of entries: one body in one frame.
struct IndexBlock: Hashable, Sendable {
    var first: UInt64
    var count: UInt32
    var segment: UInt32
    /// Bytes from the segment's start.
    var bodyOffset: UInt32
    var bodyBytes: UInt32
    /// More than `bodyBytes` if the body is compressed.
    var rawBytes: UInt32
    var bodyChecksum: UInt32
    /// Just past the last index. A block loses entries at its end, never at its front.
    var end: UInt64 { first + UInt64(count) }
    var isCompressed: Bool { rawBytes != bodyBytes }
}

/// The blocks of one region.
struct RegionIndex: Sendable {
    private var blocks: ContiguousArray<IndexBlock> = []
    /// Blocks before it are compacted away and not yet removed from the array.
    private var head = 0

    var isEmpty: Bool { head == blocks.count }
    var count: Int { blocks.count - head }
    var first: IndexBlock? { isEmpty ? nil : blocks[head] }
    var last: IndexBlock? { isEmpty ? nil : blocks[blocks.count - 1] }
    var live: ArraySlice<IndexBlock> { ArraySlice(blocks[head...]) }

    /// Drops every entry at and past `block.first`, then adds the block.
    mutating func append(_ block: IndexBlock) {
        truncate(from: block.first)
        blocks.append(block)
    }

    private mutating func truncate(from index: UInt64) {
        while blocks.count > head {
            let last = blocks.count - 1
            if blocks[last].end <= index { return }
            if blocks[last].first < index {
                blocks[last].count = UInt32(index - blocks[last].first)
                return
            }
            blocks.removeLast()
        }
    }

    /// Drops the blocks that lie wholly below `index`.
    mutating func compact(to index: UInt64) {
        while head < blocks.count, blocks[head].end <= index { head += 1 }
        // Moving the rest down each time would cost its length for each compaction.
        if head == blocks.count {
            blocks.removeAll(keepingCapacity: true)
            head = 0
        } else if head > 32, head > blocks.count / 2 {
            blocks.removeSubrange(..<head)
            head = 0
        }
    }

    mutating func removeAll() {
        blocks.removeAll()
        head = 0
    }

    /// The position of the block that holds `index`, for ``subscript(_:)``; nil if none does.
    func position(of index: UInt64) -> Int? {
        var low = head
        var high = blocks.count
        while low < high {
            let middle = (low + high) / 2
            if blocks[middle].end <= index { low = middle + 1 } else { high = middle }
        }
        return low < blocks.count && blocks[low].first <= index ? low : nil
    }

    /// The block at a position; nil past the last.
    func block(at position: Int) -> IndexBlock? {
        position < blocks.count ? blocks[position] : nil
    }
}

/// One region in the log's memory.
struct RegionLog: Sendable {
    let region: RegionID
    /// As of the last record submitted: what replaying the whole log would give.
    var staged: RegionState

    // As of the last durable record:
    var index = RegionIndex()
    var firstIndex = LogIndex(1)
    /// Segments of the newest durable hard state, beginning, and birth or tombstone; 0: there is none.
    var hardStateSegment: UInt64 = 0
    var baseSegment: UInt64 = 0
    var identitySegment: UInt64 = 0

    init(region: RegionID, isNew: Bool) {
        self.region = region
        staged = RegionState(isNew: isNew)
    }

    /// Takes one durable record, in log order, into the index.
    mutating func becameDurable(_ item: BatchItem, segment: UInt64, bodyOffset: Int) {
        if item.hasHardState { hardStateSegment = segment }
        switch item.kind {
        case .append:
            guard item.count > 0 else { return }
            index.append(
                IndexBlock(
                    first: item.firstIndex.rawValue, count: item.count, segment: UInt32(segment),
                    bodyOffset: UInt32(bodyOffset), bodyBytes: item.bodyBytes,
                    rawBytes: item.rawBytes, bodyChecksum: item.bodyChecksum))
        case .compact:
            guard item.firstIndex > firstIndex || baseSegment == 0 else { return }
            firstIndex = max(firstIndex, item.firstIndex)
            baseSegment = segment
            index.compact(to: item.firstIndex.rawValue)
        case .reset:
            firstIndex = item.firstIndex
            baseSegment = segment
            index.removeAll()
        case .birth:
            identitySegment = segment
        case .tombstone:
            identitySegment = segment
            firstIndex = LogIndex(1)
            baseSegment = 0
            index.removeAll()
        case .carry:
            firstIndex = item.firstIndex
            hardStateSegment = segment
            baseSegment = segment
            identitySegment = segment
            index.compact(to: item.firstIndex.rawValue)
        }
    }

    /// Whether entries of the region are in `segment`.
    func hasEntries(in segment: UInt64) -> Bool {
        index.first.map { UInt64($0.segment) == segment } ?? false
    }

    /// Whether the newest hard state, beginning or birth of the region is in `segment`.
    func hasState(in segment: UInt64) -> Bool {
        hardStateSegment == segment || baseSegment == segment || identitySegment == segment
    }
}

/// All regions of a log, each in a slot that it keeps.
struct RegionTable: Sendable {
    private(set) var slots: ContiguousArray<RegionLog> = []
    private var slotOf: [RegionID: Int32] = [:]
    /// Whether a region that is not in the table was never in the log either.
    var isComplete = true

    /// The region's slot, made if it is new.
    mutating func slot(of region: RegionID) -> Int {
        if let slot = slotOf[region] { return Int(slot) }
        slots.append(RegionLog(region: region, isNew: isComplete))
        slotOf[region] = Int32(slots.count - 1)
        return slots.count - 1
    }

    /// Takes another table's regions, none of which is in this one.
    mutating func add(_ other: RegionTable) {
        isComplete = other.isComplete
        slotOf.reserveCapacity(slots.count + other.slots.count)
        for log in other.slots {
            slotOf[log.region] = Int32(slots.count)
            slots.append(log)
        }
    }

    func find(_ region: RegionID) -> Int? { slotOf[region].map(Int.init) }

    subscript(slot: Int) -> RegionLog {
        _read { yield slots[slot] }
        _modify { yield &slots[slot] }
    }
    var count: Int { slots.count }
}

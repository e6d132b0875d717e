// Hot path: no allocation per entry.
//
// One region in the log's memory: what was submitted, and where what is durable of it lies.
//
//   | region | hard state, first and last index, ... | identity | index | two segments |   88 bytes
//
// There may be very many regions that do nothing: what a region at rest takes is this and its place
// in the table. Its birth or tombstone, and its entries' blocks, are behind a word each.

import UkehiBase

/// One region in the log's memory.
struct RegionLog: Sendable {
    let region: RegionID
    /// As of the last record submitted: what replaying the whole log would give.
    var staged: RegionState

    // As of the last durable record:
    var index = RegionIndex()
    /// Segments of the newest durable hard state and beginning; 0: there is none.
    private(set) var hardStateSegment: UInt32 = 0
    private(set) var baseSegment: UInt32 = 0
    /// The same of a birth or tombstone.
    var identitySegment: UInt32 { staged.identity?.segment ?? 0 }

    /// Without entries nobody can tell whether the newest compaction is durable.
    var firstIndex: LogIndex { index.firstIndex ?? staged.firstIndex }

    init(region: RegionID, isNew: Bool) {
        self.region = region
        staged = RegionState(isNew: isNew)
    }

    /// Takes one durable record, in log order, into the index.
    mutating func becameDurable(_ item: BatchItem, segment: UInt64, bodyOffset: Int) {
        // Segment ids are at most 32 bits wide (docs/FORMATS.md).
        let segment = UInt32(segment)
        if item.hasHardState { hardStateSegment = segment }
        switch item.kind {
        case .append:
            guard item.count > 0 else { return }
            index.append(
                IndexBlock(
                    first: item.firstIndex.rawValue, count: item.count, segment: segment,
                    bodyOffset: UInt32(bodyOffset), bodyBytes: item.bodyBytes,
                    rawBytes: item.rawBytes, bodyChecksum: item.bodyChecksum),
                firstIndex: staged.firstIndex)
        case .compact:
            let isNews =
                item.firstIndex > firstIndex || item.firstIndex == staged.firstIndex
                || baseSegment == 0
            guard isNews else { return }
            baseSegment = segment
            index.compact(to: max(firstIndex, item.firstIndex).rawValue)
        case .reset:
            baseSegment = segment
            index.removeAll()
        case .birth:
            staged.identity?.segment = segment
        case .tombstone:
            staged.identity?.segment = segment
            baseSegment = 0
            index.removeAll()
        case .carry:
            hardStateSegment = segment
            baseSegment = segment
            staged.identity?.segment = segment
            index.compact(to: item.firstIndex.rawValue)
        }
    }

    /// Whether entries of the region are in `segment`.
    func hasEntries(in segment: UInt64) -> Bool {
        index.first.map { $0.segment == segment } ?? false
    }

    /// Whether the newest hard state, beginning or birth of the region is in `segment`.
    func hasState(in segment: UInt64) -> Bool {
        hardStateSegment == segment || baseSegment == segment || identitySegment == segment
    }
}

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
    ///
    /// - Parameter use: Keeps count of it, if given.
    mutating func becameDurable(
        _ item: BatchItem, segment: UInt64, bodyOffset: Int, use: SegmentUse? = nil
    ) {
        // Segment ids are at most 32 bits wide (docs/FORMATS.md).
        let segment = UInt32(segment)
        if item.hasHardState { Self.move(&hardStateSegment, to: segment, use) }
        switch item.kind {
        case .append:
            guard item.count > 0 else { return }
            index.append(
                IndexBlock(item, segment: segment, bodyOffset: bodyOffset),
                firstIndex: beginning(with: item), use: use)
        case .rewrite:
            index.replace(
                with: IndexBlock(item, segment: segment, bodyOffset: bodyOffset),
                firstIndex: beginning(with: item), use: use)
        case .compact:
            let isNews =
                item.firstIndex > firstIndex || item.firstIndex == staged.firstIndex
                || baseSegment == 0
            guard isNews else { return }
            Self.move(&baseSegment, to: segment, use)
            index.compact(to: max(firstIndex, item.firstIndex).rawValue, use: use)
        case .reset:
            Self.move(&baseSegment, to: segment, use)
            index.removeAll(use: use)
        case .birth:
            moveIdentity(to: segment, use)
        case .tombstone:
            moveIdentity(to: segment, use)
            Self.move(&baseSegment, to: 0, use)
            index.removeAll(use: use)
        case .carry:
            Self.move(&hardStateSegment, to: segment, use)
            Self.move(&baseSegment, to: segment, use)
            moveIdentity(to: segment, use)
            index.compact(to: item.firstIndex.rawValue, use: use)
        }
    }

    /// Where the durable log begins if these are its first entries: a later beginning that was submitted need
    /// not be durable yet, and entries before it are needed until it is.
    private func beginning(with item: BatchItem) -> LogIndex {
        min(staged.firstIndex, item.firstIndex)
    }

    @inline(__always)
    private static func move(_ place: inout UInt32, to segment: UInt32, _ use: SegmentUse?) {
        guard place != segment else { return }
        use?.move(from: place, to: segment)
        place = segment
    }

    private func moveIdentity(to segment: UInt32, _ use: SegmentUse?) {
        guard let identity = staged.identity else { return }
        Self.move(&identity.segment, to: segment, use)
    }

    /// Whether entries of the region are in `segment`, before which there are none.
    func hasEntries(in segment: UInt64) -> Bool {
        UInt32(exactly: segment).map { index.holds($0) } ?? false
    }

    /// Whether the newest hard state, beginning or birth of the region is in `segment`.
    func hasState(in segment: UInt64) -> Bool {
        hardStateSegment == segment || baseSegment == segment || identitySegment == segment
    }
}

extension IndexBlock {
    /// The entries of a record whose body is at this place.
    init(_ item: BatchItem, segment: UInt32, bodyOffset: Int) {
        self.init(
            first: item.firstIndex.rawValue, count: item.count, segment: segment,
            bodyOffset: UInt32(bodyOffset), bodyBytes: item.bodyBytes, rawBytes: item.rawBytes,
            bodyChecksum: item.bodyChecksum)
    }
}

// Which regions need the oldest segment: a walk over all of them, in pieces, so that the log's lock is
// held for a moment only, however many there are.
//
// What a region wrote goes to the newest segment. So one that needs nothing of the oldest never will
// again: the walk begins where the last one met the first region in need, and what a piece found may
// by now be less, but never more.

import UkehiBase

/// How far the regions were looked at for one segment.
struct PurgeScan {
    private(set) var segment: UInt64 = 0
    /// Slots before it need nothing of the segment.
    private var clean = 0
    /// Of the walk under way:
    private(set) var next = 0
    /// Regions whose entries are in the segment.
    private(set) var pinning: [Pinning] = []
    /// Slots whose states are in the segment, not all of them if there are many.
    private(set) var carrying: [Int] = []

    struct Pinning: Hashable {
        var slot: Int
        var region: RegionID
    }

    /// The regions that hold the segment back, ascending.
    var pinningRegions: [RegionID] { pinning.map(\.region).sorted() }

    /// Regions looked at under one hold of the lock.
    static let pieceSlots = 2048
    /// More states than these are left for the next walk.
    private static let maxCarrying = 1 << 16

    /// Begins a walk.
    mutating func begin(_ segment: UInt64) {
        if segment != self.segment {
            self.segment = segment
            clean = 0
        }
        next = clean
        pinning.removeAll(keepingCapacity: true)
        carrying.removeAll(keepingCapacity: true)
    }

    /// Looks at a piece of `regions`; false once all were looked at. Called with the log's lock held.
    mutating func lookOn(_ regions: RegionTable) -> Bool {
        let end = min(next + PurgeScan.pieceSlots, regions.count)
        while next < end {
            if let segment = UInt32(exactly: segment) { regions[next].index.findOldest(segment) }
            let isPinning = regions[next].hasEntries(in: segment)
            let isCarrying = regions[next].hasState(in: segment)
            if isPinning {
                pinning.append(Pinning(slot: next, region: regions[next].region))
            }
            if isCarrying, carrying.count < PurgeScan.maxCarrying { carrying.append(next) }
            if clean == next, !isPinning, !isCarrying { clean = next + 1 }
            next += 1
        }
        return next < regions.count
    }
}

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
    /// Slots whose entries are in the segment.
    private(set) var pinning: [Int] = []
    /// Slots whose states are in the segment, not all of them if there are many.
    private(set) var carrying: [Int] = []

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
            let isPinning = regions[next].hasEntries(in: segment)
            let isCarrying = regions[next].hasState(in: segment)
            if isPinning { pinning.append(next) }
            if isCarrying, carrying.count < PurgeScan.maxCarrying { carrying.append(next) }
            if clean == next, !isPinning, !isCarrying { clean = next + 1 }
            next += 1
        }
        return next < regions.count
    }
}

/// What regions hold back, by the oldest segment that each of them needs.
struct HeldBytes {
    private let oldest: UInt64
    /// Of all entries of those regions, by segments from `oldest` on.
    private var bytes: [Int]
    private var next = 0

    init(oldest: UInt64, segments: Int) {
        self.oldest = oldest
        bytes = [Int](repeating: 0, count: segments)
    }

    /// Looks at a piece of `regions`; false once all were looked at. Called with the log's lock held.
    mutating func lookOn(_ regions: RegionTable) -> Bool {
        let end = min(next + PurgeScan.pieceSlots, regions.count)
        while next < end {
            if let first = regions[next].index.first, first.segment >= oldest {
                let place = Int(UInt64(first.segment) - oldest)
                if place < bytes.count { bytes[place] += regions[next].estimatedBytes(first) }
            }
            next += 1
        }
        return next < regions.count
    }

    /// Whether some segments, from the oldest on, are so many and so large that to free them is worth
    /// writing again what regions hold of them, and later. `sizes`: their bytes.
    func isWorthRewriting(_ sizes: [Int]) -> Bool {
        var (freed, needed) = (0, 0)
        for place in 0..<min(sizes.count, bytes.count) {
            freed += sizes[place]
            needed += bytes[place]
            if place + 1 >= WALLimits.leastFreedByRewriting, freed >= 2 * needed { return true }
        }
        return false
    }
}

extension RegionLog {
    /// Bytes of its entries, if all are as large as those of the first and the last block.
    fileprivate func estimatedBytes(_ first: IndexBlock) -> Int {
        guard let last = index.last else { return 0 }
        let (bytes, entries) = (
            UInt64(first.bodyBytes) + UInt64(last.bodyBytes),
            UInt64(first.count) + UInt64(last.count)
        )
        let all = last.end - first.first
        let (product, isOver) = bytes.multipliedReportingOverflow(by: all)
        return FrameFormat.itemBytes + Int((isOver ? .max : product) / max(entries, 1))
    }
}

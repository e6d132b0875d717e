// Hot path: a few additions for each record that becomes durable.
//
// What each segment holds that regions need: counted as blocks and states come and go, so that purging
// need not walk over all regions to know whether a segment is free, or worth freeing.

import UkehiBase

/// What is needed of each segment of a log.
///
/// Safety: changed under the lock of the log that it is of.
final class SegmentUse: @unchecked Sendable {
    struct Count: Hashable, Sendable {
        var blocks = 0
        /// Hard states, beginnings, and births or tombstones.
        var states = 0
        /// Of blocks, with their directory items.
        var blockBytes = 0

        /// About what it would take to write it again. A carry says up to three states at once, but in a
        /// long directory, of which there are two.
        var liveBytes: Int { blockBytes + states * FrameFormat.itemBytes }
        var isFree: Bool { blocks == 0 && states == 0 }
    }

    /// The oldest segment's first; others from it on, one by one.
    @exclusivity(unchecked)
    private(set) var counts: ContiguousArray<Count> = []
    @exclusivity(unchecked)
    private(set) var oldest: UInt32 = 1

    init() {}

    /// Of everything in `regions`.
    init(_ regions: RegionTable, oldest: UInt64, newest: UInt64) {
        self.oldest = UInt32(oldest)
        begin(newest)
        for slot in 0..<regions.count {
            for block in regions[slot].index.live { add(block) }
            let states = [
                regions[slot].hardStateSegment, regions[slot].baseSegment,
                regions[slot].identitySegment,
            ]
            for segment in states { move(from: 0, to: segment) }
        }
    }

    func add(_ block: IndexBlock) {
        guard let place = place(block.segment) else { return }
        counts[place].blocks += 1
        counts[place].blockBytes += Int(block.bodyBytes) + FrameFormat.itemBytes
    }

    func drop(_ block: IndexBlock) {
        guard let place = place(block.segment) else { return }
        counts[place].blocks -= 1
        counts[place].blockBytes -= Int(block.bodyBytes) + FrameFormat.itemBytes
    }

    /// A state is newly in another segment; 0: in none.
    func move(from old: UInt32, to new: UInt32) {
        if let place = place(old) { counts[place].states -= 1 }
        if let place = place(new) { counts[place].states += 1 }
    }

    /// Counts for segments up to this one.
    func begin(_ segment: UInt64) {
        while UInt64(oldest) + UInt64(counts.count) <= segment { counts.append(Count()) }
    }

    /// The oldest segment is gone.
    func removeOldest() {
        guard !counts.isEmpty else { return }
        counts.removeFirst()
        oldest += 1
    }

    /// Of a segment; nothing is needed of one that is not counted.
    subscript(segment: UInt64) -> Count {
        UInt32(exactly: segment).flatMap { place($0) }.map { counts[$0] } ?? Count()
    }

    @inline(__always)
    private func place(_ segment: UInt32) -> Int? {
        let place = Int(segment) - Int(oldest)
        return place >= 0 && place < counts.count ? place : nil
    }

    /// Whether some segments, from the oldest on, are so many and so large that to free them is worth
    /// writing again what is needed of them. `sizes`: their bytes on disk.
    ///
    /// What makes that hold for some makes it hold for those of them that are left when the first are
    /// gone. And while it holds for none, all of them together are less than twice what is needed.
    func isWorthRewriting(_ sizes: some Collection<Int>) -> Bool {
        var (freed, needed) = (0, 0)
        for (place, size) in sizes.enumerated() where place < counts.count {
            freed += size
            needed += counts[place].liveBytes
            if place + 1 >= WALLimits.leastFreedByRewriting, freed >= 2 * needed { return true }
        }
        return false
    }
}

// A node's user regions, found by id and in the order of their ranges.
//
// A node may have thousands of regions and gets dozens at once when one is divided: what comes is merged in
// one walk, and nothing is searched from the beginning.

import UkehiBase

/// Descriptors by id and by range.
///
/// Invariant: `lowers` has the lower bound of each of `ascending`, which ascend by theirs.
struct RegionTable {
    private(set) var ascending: [RegionDescriptor] = []
    private var lowers: [RegionID: Bytes] = [:]

    /// O(log n).
    subscript(region: RegionID) -> RegionDescriptor? { position(of: region).map { ascending[$0] } }

    /// Takes regions in, or anew. O(n + k log k) for k of them.
    mutating func insert(_ descriptors: [RegionDescriptor]) {
        let fresh = Dictionary(descriptors.map { ($0.region, $0) }) { $1 }.values.sorted {
            ($0.range.lower, $0.region) < ($1.range.lower, $1.region)
        }
        // A region whose lower bound stays keeps its place; the others are merged.
        var moved: [RegionDescriptor] = []
        var left: Set<RegionID> = []
        for descriptor in fresh {
            let known = lowers.updateValue(descriptor.range.lower, forKey: descriptor.region)
            if known == descriptor.range.lower, let position = position(of: descriptor.region) {
                ascending[position] = descriptor
            } else {
                if known != nil { left.insert(descriptor.region) }
                moved.append(descriptor)
            }
        }
        guard !moved.isEmpty else { return }
        var merged: [RegionDescriptor] = []
        merged.reserveCapacity(ascending.count + moved.count)
        var next = 0
        for descriptor in ascending where !left.contains(descriptor.region) {
            while next < moved.count, moved[next].range.lower < descriptor.range.lower {
                merged.append(moved[next])
                next += 1
            }
            merged.append(descriptor)
        }
        merged += moved[next...]
        ascending = merged
    }

    /// O(n).
    mutating func remove(_ region: RegionID) {
        guard let position = position(of: region) else { return }
        ascending.remove(at: position)
        lowers[region] = nil
    }

    /// Takes many out, in one walk. O(n).
    mutating func remove(_ regions: Set<RegionID>) {
        guard !regions.isEmpty else { return }
        ascending.removeAll { regions.contains($0.region) }
        for region in regions { lowers[region] = nil }
    }

    /// The regions that have a key of `range`. O(log n) and one step for each.
    ///
    /// Where ranges overlap, as they never should, one that begins before another may be passed over.
    func overlapping(_ range: KeyRange) -> ArraySlice<RegionDescriptor> {
        var start = place(of: range.lower)
        if start > 0, ascending[start - 1].range.overlaps(range) { start -= 1 }
        let end = ascending[start...].firstIndex { !$0.range.overlaps(range) } ?? ascending.count
        return ascending[start..<end]
    }

    private func position(of region: RegionID) -> Int? {
        guard let lower = lowers[region] else { return nil }
        let start = place(of: lower)
        return ascending[start...].firstIndex { $0.region == region }
    }

    /// The first place whose region does not begin before `lower`.
    private func place(of lower: Bytes) -> Int {
        var low = 0
        var high = ascending.count
        while low < high {
            let middle = (low + high) / 2
            if ascending[middle].range.lower < lower { low = middle + 1 } else { high = middle }
        }
        return low
    }
}

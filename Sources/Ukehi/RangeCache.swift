// What a client knows of the cluster: which region holds a key, who leads it, where nodes are.
//
// Never trusted: a request carries nothing but its key, the node that gets it judges, and its
// refusal carries the region as it is now. So the cache may be wrong at any time, and repairs itself
// from the answers.

internal import UkehiBase
internal import UkehiNode

/// Regions by range, nodes by id. A value; its owner guards it.
///
/// Invariant: ranges ascend and do not overlap.
struct RangeCache {
    private var regions: [RegionInfo] = []
    private var addresses: [NodeID: String] = [:]
    /// Its range is over keys of its own.
    private var system: RegionInfo?

    /// The known region of `key`.
    func region(of key: Bytes) -> RegionInfo? {
        let position = firstAbove(key)
        guard position > 0 else { return nil }
        let found = regions[position - 1]
        return found.range.contains(key) ? found : nil
    }

    /// The known region that holds `key`, or the first one above it.
    func regionAtOrAbove(_ key: Bytes) -> RegionInfo? {
        if let found = region(of: key) { return found }
        let position = firstAbove(key)
        return position < regions.count ? regions[position] : nil
    }

    /// The known region of this id.
    func region(_ id: RegionID) -> RegionInfo? {
        id == .system ? system : regions.first { $0.region == id }
    }

    /// Where a node is reached.
    func address(of node: NodeID) -> String? { addresses[node] }

    /// All regions, ascending.
    var all: [RegionInfo] { regions }

    /// Takes over a whole view.
    mutating func replace(_ topology: Topology) {
        for var info in topology.regions {
            if info.leader == nil, !info.nodes.contains(topology.node) {
                // Who does not hold it knows it from hearsay, and cannot know who leads it.
                let known = region(of: info.range.lower)
                if let known, known.region == info.region, known.range == info.range {
                    guard known.epoch.confVersion <= info.epoch.confVersion else { continue }
                    if known.epoch == info.epoch { info.leader = known.leader }
                }
            }
            insert(info)
        }
        for node in topology.nodes where !node.address.isEmpty {
            addresses[node.node] = node.address
        }
    }

    /// Takes over one region; what overlapped it is forgotten, unless it is known to be newer: a node that
    /// lags tells of a region as it was before it was divided (RULES 25).
    mutating func insert(_ info: RegionInfo) {
        guard info.region != .system else { return system = info }
        // The usual case, a new leader of a known range, moves nothing.
        let position = firstAbove(info.range.lower)
        if position > 0, regions[position - 1].range == info.range {
            if regions[position - 1].epoch.version <= info.epoch.version {
                regions[position - 1] = info
            }
            return
        }
        let start =
            position > 0 && regions[position - 1].range.overlaps(info.range)
            ? position - 1 : position
        let end = regions[start...].firstIndex { !$0.range.overlaps(info.range) } ?? regions.count
        guard regions[start..<end].allSatisfy({ $0.epoch.version <= info.epoch.version }) else {
            return
        }
        regions.replaceSubrange(start..<end, with: CollectionOfOne(info))
    }

    /// Forgets that a node is reached at `address`.
    mutating func forget(address: String) {
        for (node, known) in addresses where known == address { addresses[node] = nil }
    }

    /// Forgets who leads the region of `key`: whoever was asked did not answer.
    mutating func forgetLeader(of key: Bytes) {
        let position = firstAbove(key)
        guard position > 0 else { return }
        regions[position - 1].leader = nil
    }

    /// The same of a region by its id.
    mutating func forgetLeader(of id: RegionID) {
        if id == .system { system?.leader = nil }
        if let position = regions.firstIndex(where: { $0.region == id }) {
            regions[position].leader = nil
        }
    }

    /// How many regions begin at or below `key`.
    private func firstAbove(_ key: Bytes) -> Int {
        var low = 0
        var high = regions.count
        while low < high {
            let middle = (low + high) / 2
            if regions[middle].range.lower <= key { low = middle + 1 } else { high = middle }
        }
        return low
    }
}

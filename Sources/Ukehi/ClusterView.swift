// The whole cluster, put together from what its nodes say: each knows for sure only what it holds.

public import UkehiBase
public import UkehiNode

/// What all nodes that answer know of the cluster together.
public struct ClusterView: Hashable, Sendable {
    /// Its regions are the newest that any of them knows of each range, of which one that answers has a peer.
    public var topology: Topology
    /// Nodes that did not answer.
    public var silent: [NodeAddress]
    /// Ranges that none of those that answer has a region for, ascending: their regions are on silent nodes, or
    /// lost.
    public var unknown: [KeyRange]
    /// Regions of those ranges as the cluster's map has them: who held them last. Nobody says who leads them.
    public var unreached: [RegionInfo]
}

extension RequestEngine {
    /// Asks one node for the others, and each of those for what it knows.
    func view(timeout: Duration) async throws(RequestError) -> ClusterView {
        let end = deadline(timeout)
        var topology = try await refresh(until: end)
        var nodes: [NodeID: NodeAddress] = [:]
        for node in topology.nodes { nodes[node.node] = node }
        var answering: Set<NodeID> = [topology.node]
        var silent: [NodeAddress] = []
        var told = NewestRegions()
        told.hear(topology)
        for node in topology.nodes where !node.isGone && !isOwn(node.node) {
            // Who is down must not take the time of the others.
            let patience = min(timeout, .seconds(2))
            guard let reply = try? await ask(.topology, at: node.address, timeout: patience),
                case .topology(let seen) = reply
            else {
                silent.append(node)
                continue
            }
            answering.insert(node.node)
            told.hear(seen)
            // Nobody comes back who is gone: whoever says so knows more.
            for node in seen.nodes where nodes[node.node] == nil || node.isGone {
                nodes[node.node] = node
            }
        }
        topology.nodes = nodes.values.sorted { $0.node < $1.node }
        let known = told.all
        topology.regions = known.filter { !answering.isDisjoint(with: $0.nodes) }
        return ClusterView(
            topology: topology, silent: silent,
            unknown: KeyRange.all.subtracting(topology.regions.map(\.range)),
            unreached: known.filter { answering.isDisjoint(with: $0.nodes) })
    }
}

/// Each region as the node that knows the newest of it tells it, in whatever order nodes are asked.
struct NewestRegions {
    private var regions: [RegionID: RegionInfo] = [:]

    mutating func hear(_ topology: Topology) {
        for info in topology.regions {
            let byLeader = info.leader == topology.node
            guard let known = regions[info.region] else {
                regions[info.region] = info
                continue
            }
            let (new, old) = (info.epoch, known.epoch)
            if (new.version, new.confVersion) == (old.version, old.confVersion) {
                // Who leads it knows so; others have heard of it.
                guard byLeader || (known.leader == nil && info.leader != nil) else { continue }
            } else {
                guard (old.version, old.confVersion) < (new.version, new.confVersion) else {
                    continue
                }
            }
            regions[info.region] = info
        }
    }

    /// Ascending by range; of those that claim the same keys the one that was divided last.
    var all: [RegionInfo] {
        var cache = RangeCache()
        for known in regions.values.sorted(by: { $0.range.lower < $1.range.lower }) {
            cache.insert(known)
        }
        return cache.all
    }
}

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
            // Nobody comes back who is gone: whoever says so knows more.
            for node in seen.nodes where nodes[node.node] == nil || node.isGone {
                nodes[node.node] = node
            }
        }
        topology.nodes = nodes.values.sorted { $0.node < $1.node }
        // The cache takes no older region over a newer one.
        let known = knownRegions
        topology.regions = known.filter { !answering.isDisjoint(with: $0.nodes) }
        return ClusterView(
            topology: topology, silent: silent,
            unknown: KeyRange.all.subtracting(topology.regions.map(\.range)),
            unreached: known.filter { answering.isDisjoint(with: $0.nodes) })
    }
}

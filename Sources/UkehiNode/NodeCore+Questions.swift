// What a node knows of its cluster, as its clients and embedders ask.

import Synchronization
package import UkehiBase

extension NodeCore {
    /// The cluster as this node knows it; nil before it is part of one.
    package var topology: Topology? {
        state.withLock { state in
            guard let record = state.identity.record, let node = state.identity.node else {
                return nil
            }
            return Topology(
                cluster: record.cluster, node: node,
                nodes: record.nodes.map {
                    NodeAddress(node: $0.node, name: $0.name, address: $0.address)
                },
                regions: state.descriptors.map { $0.info(leader: state.leaders[$0.region]) })
        }
    }

    /// This node's id; nil before it is part of a cluster.
    package var nodeID: NodeID? { state.withLock { $0.identity.node } }

    /// Whether this node leads the system region, as far as it knows.
    package var isLeader: Bool {
        state.withLock { $0.identity.node != nil && $0.leaders[.system] == $0.identity.node }
    }

    /// Whether this node leads the region of `key`, as far as it knows.
    package func leads(_ key: Bytes) -> Bool {
        state.withLock { state in
            guard let node = state.identity.node, let route = state.router.route(for: key) else {
                return false
            }
            return state.leaders[route.region] == node
        }
    }
}

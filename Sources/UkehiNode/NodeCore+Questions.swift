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
            let regions = state.knownRegions
            let system = state.system ?? state.foreign[.system]
            let holders = Set(regions.flatMap(\.nodes) + (system?.peers.map(\.node) ?? []))
            // Who is gone is named while regions still count on it.
            return Topology(
                cluster: record.cluster, node: node,
                nodes: record.nodes.compactMap { known in
                    if known.standing == .present {
                        return NodeAddress(
                            node: known.node, name: known.name, address: known.address)
                    }
                    guard holders.contains(known.node) else { return nil }
                    return NodeAddress(node: known.node, name: "\(known.name) (gone)", address: "")
                },
                regions: regions)
        }
    }

    /// Who holds a key that no region of this node does, as far as it knows; asked once a request is here.
    package func elsewhere(_ key: Bytes) -> RequestError.Rejection {
        let answer = state.withLock { state in
            // Those of which all members are dead have nobody to be asked.
            let absent = state.identity.record?.registry.absent ?? []
            return state.foreignRegion(of: key) { known in
                !known.peers.allSatisfy { absent.contains($0.node) }
            }.flatMap { state.holders(of: $0) }
        }
        return answer ?? .unavailable("No region of this node holds the key.")
    }

    /// The region of this node that holds a user key.
    package func region(of key: Bytes) -> RegionID? {
        state.withLock { $0.router }.route(for: key)?.region
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

extension NodeCore.State {
    /// Whom to ask for a region that this node has no peer of, whatever it has heard of its members: others. Nil:
    /// there is nobody.
    func holders(of region: RegionDescriptor) -> RequestError.Rejection? {
        var info = region.info(leader: nil)
        info.nodes.removeAll { $0 == identity.node }
        return info.nodes.isEmpty ? nil : .notLeader(info)
    }
}

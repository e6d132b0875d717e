// How nodes that know of no cluster come to be one, exactly once (DESIGN 7).
//
//   every node    keeps asking all configured peers who they are (the transport's hello)
//   lowest name   when all have answered "no cluster": makes the record, persists it, offers it
//   others        persist an offered record that names them with their incarnation, then take part
//   members       offer a record to whoever of the registry lacks it
//
// An empty directory alone never invents a cluster: while any configured peer has not answered,
// nothing happens. An empty directory that says hello to a member asks by that to be a node, too
// (NodeCore+Registry.swift). Pure: inputs in, actions out; persistence and sending are the node's.

package import UkehiBase

/// What the node has to do for its bootstrap, in order.
package enum BootstrapAction: Hashable, Sendable {
    /// Persist the record, birth its regions, and go on as a member.
    case join(ClusterRecord)
    /// Send these bytes to the configured address.
    case offer(Bytes, to: String)
    /// The same for a node that joined later, with the regions as they are known now.
    case welcome(NodeID, to: String)
}

/// The bootstrap conversation of one node.
package struct Bootstrap: Sendable {
    /// This node, its cluster fields nil.
    private var local: Hello
    private let peers: [String]
    private let ranges: [KeyRange]
    private let newCluster: ClusterID
    private var record: ClusterRecord?
    /// The latest answer of each configured address.
    private var answers: [(address: String, hello: Hello)] = []

    /// - Parameters:
    ///   - peers: Addresses of all other nodes; none: a cluster of one.
    ///   - ranges: The user regions to begin with, if it falls to this node to make the record.
    ///   - newCluster: A random id, used only then.
    ///   - record: The record if the directory has one.
    package init(
        local: Hello, peers: [String], ranges: [KeyRange], newCluster: ClusterID,
        record: ClusterRecord?
    ) {
        self.local = local
        self.peers = peers
        self.ranges = ranges
        self.newCluster = newCluster
        self.record = record
    }

    /// The address that others reach this node at, once the system has chosen its port.
    package mutating func reached(at address: String) { local.address = address }

    /// What to do at start: a node without peers is its own cluster.
    package mutating func start() -> [BootstrapAction] {
        guard record == nil, peers.isEmpty else { return [] }
        return make(with: [])
    }

    /// A node that was dialed has answered.
    package mutating func connected(_ remote: Hello, dialed: String) -> [BootstrapAction] {
        if let record {
            guard remote.cluster == nil, let known = listed(remote, in: record) else { return [] }
            let isFirst = record.regions.contains { $0.peer(on: known.node) != nil }
            return isFirst
                ? [.offer(record.encoded(), to: dialed)] : [.welcome(known.node, to: dialed)]
        }
        guard peers.contains(dialed) else { return [] }
        answers.removeAll { $0.address == dialed }
        answers.append((dialed, remote))
        let hellos = answers.map(\.hello)
        guard answers.count == peers.count, hellos.allSatisfy({ $0.cluster == nil }),
            hellos.allSatisfy({ local.name < $0.name })
        else { return [] }
        // Two addresses of one node would make it two members.
        guard Set(hellos.map(\.name)).count == hellos.count else { return [] }
        return make(with: answers)
    }

    /// A record was offered. An error is a reason to log: the offer is void.
    package mutating func offered(_ bytes: Bytes) throws(DecodeError) -> [BootstrapAction] {
        let offer = try ClusterRecord.decode(bytes)
        if record != nil { return [] }
        guard let mine = offer.node(named: local.name), mine.incarnation == local.incarnation
        else {
            throw DecodeError("the offered cluster does not list this directory", offset: 0)
        }
        record = offer
        return [.join(offer)]
    }

    private mutating func make(with answers: [(address: String, hello: Hello)]) -> [BootstrapAction]
    {
        var members = answers.map {
            (name: $0.hello.name, address: $0.hello.address, incarnation: $0.hello.incarnation)
        }
        members.append((local.name, local.address, local.incarnation))
        let record = ClusterRecord.make(cluster: newCluster, members: members, ranges: ranges)
        self.record = record
        let bytes = record.encoded()
        return [.join(record)] + answers.map { .offer(bytes, to: $0.address) }
    }

    private func listed(_ remote: Hello, in record: ClusterRecord) -> NodeRecord? {
        guard let known = record.node(named: remote.name),
            known.incarnation == remote.incarnation
        else { return nil }
        return known
    }

    /// The registry is another one now.
    package mutating func follow(_ registry: NodeRegistry) { record?.follow(registry) }

    /// Whether the registry has to change for this node: it is new, or was reached elsewhere.
    package func isNews(_ remote: Hello) -> Bool {
        guard let record, remote.cluster == nil || remote.node != nil else { return false }
        switch record.registry.admission(of: remote) {
        case .new, .moved: return true
        case .known, .refused: return false
        }
    }

    /// Whether a connection may go on (RULES 16, 71, 74): same cluster and a directory that is a node of it,
    /// or one that has no cluster yet.
    package func judge(_ remote: Hello) -> HandshakeVerdict {
        if remote.name == local.name {
            return .refuse(
                "Two nodes are called \(local.name), or a node's own address is among its peers. "
                    + "Give each node its own node_id and list only the others as peers.")
        }
        guard let record else { return .accept }
        guard let cluster = remote.cluster else {
            guard case .refused(let reason) = record.registry.admission(of: remote) else {
                return .accept
            }
            return .refuse("Cluster \(record.cluster) does not take node \(remote.name). \(reason)")
        }
        guard cluster == record.cluster else {
            return .refuse(
                "Node \(remote.name) belongs to cluster \(cluster), not to \(record.cluster). "
                    + "Check the peers and the data directory of both.")
        }
        guard let node = remote.node else {
            return .refuse("Node \(remote.name) says which cluster it is of, and not which node.")
        }
        guard let known = record.registry.node(node) else {
            // It joined past what is known here; or in what a recovery has not kept.
            guard remote.generation < record.registry.generation else { return .accept }
            return .dismiss(
                "Cluster \(record.cluster) was recovered without \(remote.name) (\(node)), which had "
                    + "joined just before. \(Self.rejoin)")
        }
        guard known.incarnation == remote.incarnation else {
            return .refuse(
                "Cluster \(record.cluster) knows \(node) (\(known.name)) by another data directory "
                    + "(incarnation \(known.incarnation), not \(remote.incarnation)). A copy of a "
                    + "directory, or one that was restored, is no node. \(Self.rejoin)")
        }
        switch known.standing {
        case .present: return .accept
        case .replaced:
            return .dismiss(
                "Another data directory took the name \(known.name): this one is none of cluster "
                    + "\(record.cluster) any more. \(Self.rejoin)")
        case .dead:
            #if BugBank
                if PlantedBug.deadNodesAreAccepted.isPlanted { return .accept }
            #endif
            return .dismiss(
                "\(known.name) (\(node)) was declared dead when cluster \(record.cluster) was "
                    + "recovered from a lost quorum. \(Self.rejoin)")
        }
    }

    private static let rejoin =
        "Keep its data directory as long as you may want to look at it, and start the node with an "
        + "empty one: it joins as a new node."
}

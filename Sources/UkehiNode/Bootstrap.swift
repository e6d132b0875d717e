// How nodes that know of no cluster come to be one, exactly once (DESIGN 7).
//
//   every node    keeps asking all configured peers who they are (the transport's hello)
//   lowest name   when all have answered "no cluster": makes the record, persists it, offers it
//   others        persist an offered record that names them with their incarnation, then take part
//   members       offer their record to a configured peer that lacks it; refuse strangers
//
// An empty directory alone never invents a cluster: while any configured peer has not answered,
// nothing happens. Pure: inputs in, actions out; persistence and sending are the node's.

package import UkehiBase

/// What the node has to do for its bootstrap, in order.
package enum BootstrapAction: Hashable, Sendable {
    /// Persist the record, birth its regions, and go on as a member.
    case join(ClusterRecord)
    /// Send these bytes to the configured address.
    case offer(Bytes, to: String)
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

    /// A configured peer has answered.
    package mutating func connected(_ remote: Hello, dialed: String) -> [BootstrapAction] {
        guard peers.contains(dialed) else { return [] }
        answers.removeAll { $0.address == dialed }
        answers.append((dialed, remote))
        if let record {
            guard remote.cluster == nil, lists(remote, in: record) else { return [] }
            return [.offer(record.encoded(), to: dialed)]
        }
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

    private func lists(_ remote: Hello, in record: ClusterRecord) -> Bool {
        record.node(named: remote.name)?.incarnation == remote.incarnation
    }

    /// Whether a connection may go on (RULES 16, 71): same cluster, or a side that has none yet
    /// and is not a new directory under an old member's name.
    package func judge(_ remote: Hello) -> HandshakeVerdict {
        if remote.name == local.name {
            return .refuse(
                "Two nodes are called \(local.name), or a node's own address is among its peers. "
                    + "Give each node its own node_id and list only the others as peers.")
        }
        guard let record else { return .accept }
        guard let known = record.node(named: remote.name) else {
            return .refuse(
                "Cluster \(record.cluster) has no node \(remote.name). "
                    + "Add it to the cluster before starting it with these peers.")
        }
        if let cluster = remote.cluster, cluster != record.cluster {
            return .refuse(
                "Node \(remote.name) belongs to cluster \(cluster), not to \(record.cluster). "
                    + "Check the peers and the data directory of both.")
        }
        guard known.incarnation == remote.incarnation else {
            return .refuse(
                "Cluster \(record.cluster) knows \(remote.name) by another data directory "
                    + "(incarnation \(known.incarnation), not \(remote.incarnation)). A directory "
                    + "that was lost or replaced must join as a new node under a new name.")
        }
        guard remote.node == nil || remote.node == known.node else {
            return .refuse(
                "Cluster \(record.cluster) knows \(remote.name) as node \(known.node). "
                    + "Check its data directory.")
        }
        return .accept
    }
}

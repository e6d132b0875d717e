// Which nodes a cluster has, and which directories were theirs: one document, kept by the system region
// and, as last known, by every node in its identity file (RULES 16, 63).
//
//   registry | generation u64 | version u64 | count u32 | nodes, ascending by id |
//   node     | node u64 | incarnation u64 | standing u8 | name (len u32, bytes) | address (len u32, bytes) |
//
// A node is a directory: one that is lost comes back as another node under the old name, and what the
// old one was stays in the registry for good, so that it can be refused.
//
// Invariant: the system region's log orders the versions of one generation; a recovery from a lost quorum
// begins the next generation, since that log may have lost its end (RULES 74).

package import UkehiBase

/// What a directory is to the cluster.
package enum NodeStanding: UInt8, Hashable, Sendable {
    case present = 0
    /// Another directory took its name.
    case replaced = 1
    /// An operator declared it dead when quorums were lost.
    case dead = 2
}

/// A node as the cluster knows it.
package struct NodeRecord: Hashable, Sendable {
    package var node: NodeID
    package var name: String
    package var address: String
    package var incarnation: Incarnation
    package var standing: NodeStanding

    package init(
        node: NodeID, name: String, address: String, incarnation: Incarnation,
        standing: NodeStanding = .present
    ) {
        self.node = node
        self.name = name
        self.address = address
        self.incarnation = incarnation
        self.standing = standing
    }
}

/// The nodes of a cluster, past ones included.
package struct NodeRegistry: Hashable, Sendable {
    /// Recoveries from a lost quorum so far.
    package var generation: UInt64
    /// Changes in this generation so far.
    package var version: UInt64
    /// Ascending by id. Nobody is ever taken out.
    package var nodes: [NodeRecord]

    package init(generation: UInt64 = 0, version: UInt64 = 0, nodes: [NodeRecord]) {
        self.generation = generation
        self.version = version
        self.nodes = nodes
    }

    package func node(_ node: NodeID) -> NodeRecord? { nodes.first { $0.node == node } }

    /// The node that has this name now.
    package func present(_ name: String) -> NodeRecord? {
        nodes.first { $0.standing == .present && $0.name == name }
    }

    /// The nodes there are now.
    package var present: [NodeRecord] { nodes.filter { $0.standing == .present } }

    package func isNewer(than other: NodeRegistry) -> Bool {
        (generation, version) > (other.generation, other.version)
    }
}

// MARK: - Joining

extension NodeRegistry {
    /// What becomes of a directory that wants to be a node.
    package enum Admission: Hashable, Sendable {
        /// It is one, as it says.
        case known
        /// It is one that others reach elsewhere now.
        case moved(NodeRegistry)
        /// It gets an id, then ``admitting(_:as:)``.
        case new
        case refused(String)
    }

    /// Whether the directory that says this hello can be a node. The same for every ask: an answer that is
    /// lost costs nothing.
    package func admission(of hello: Hello) -> Admission {
        if let known = nodes.first(where: { $0.incarnation == hello.incarnation }) {
            guard known.standing == .present, known.name == hello.name else {
                return .refused("It was a node once, and is none any more.")
            }
            guard known.address != hello.address else { return .known }
            var next = self
            next.version += 1
            next.change(known.node) { $0.address = hello.address }
            return .moved(next)
        }
        guard hello.node == nil else {
            return .refused("It says to be a node that the cluster does not know.")
        }
        if let holder = present(hello.name), holder.address != hello.address {
            // Its holder may be alive: nobody may be pushed out by a slip of the pen.
            return .refused(
                "The name \(hello.name) belongs to another data directory, at \(holder.address). "
                    + "Give this node a node_id of its own. If that directory is lost, start the new "
                    + "one at the old address.")
        }
        return .new
    }

    /// The registry with a new node; whoever had its name is replaced by it (RULES 16).
    package func admitting(_ hello: Hello, as node: NodeID) -> NodeRegistry {
        invariant(nodes.allSatisfy { $0.node < node }, "\(node) is not the newest id")
        var next = self
        next.version += 1
        #if BugBank
            if PlantedBug.wipedNodeKeepsItsID.isPlanted, let holder = present(hello.name) {
                next.change(holder.node) { $0.incarnation = hello.incarnation }
                return next
            }
        #endif
        if let holder = present(hello.name) {
            next.change(holder.node) { $0.standing = .replaced }
        }
        next.nodes.append(
            NodeRecord(
                node: node, name: hello.name, address: hello.address,
                incarnation: hello.incarnation))
        return next
    }

    /// The registry of the next generation, in which these nodes are dead (RULES 74).
    package func declaringDead(_ dead: Set<NodeID>) -> NodeRegistry {
        var next = self
        next.generation += 1
        next.version = 0
        for node in dead.sorted() { next.change(node) { $0.standing = .dead } }
        return next
    }

    private mutating func change(_ node: NodeID, _ body: (inout NodeRecord) -> Void) {
        guard let position = nodes.firstIndex(where: { $0.node == node }) else { return }
        body(&nodes[position])
    }
}

// MARK: - Bytes

extension NodeRegistry {
    private static let smallestNode = 25
    static let maxNameBytes = 1024

    package func encode(into writer: inout ByteWriter) {
        writer.append(generation)
        writer.append(version)
        writer.append(UInt32(nodes.count))
        for node in nodes {
            writer.append(node.node.rawValue)
            writer.append(node.incarnation.rawValue)
            writer.append(node.standing.rawValue)
            writer.appendLengthPrefixed(Bytes(node.name))
            writer.appendLengthPrefixed(Bytes(node.address))
        }
    }

    package func encoded() -> Bytes {
        var writer = ByteWriter(chunkCapacity: 1024)
        encode(into: &writer)
        return writer.take()
    }

    /// Reads a registry and nothing else.
    package static func decode(_ bytes: Bytes) throws(DecodeError) -> NodeRegistry {
        var reader = ByteReader(bytes)
        let registry = try decode(from: &reader)
        try reader.expectEnd()
        return registry
    }

    package static func decode(from reader: inout ByteReader) throws(DecodeError) -> NodeRegistry {
        let generation = try reader.read(UInt64.self)
        let version = try reader.read(UInt64.self)
        guard generation < 1 << 62, version < 1 << 62 else {
            throw reader.failure("a registry past every bound")
        }
        let nodes = try decodeNodes(from: &reader, hasStanding: true)
        return NodeRegistry(generation: generation, version: version, nodes: nodes)
    }

    /// Nodes as they stand in a registry, or in a cluster record of version 1.
    static func decodeNodes(
        from reader: inout ByteReader, hasStanding: Bool
    ) throws(DecodeError) -> [NodeRecord] {
        let count = Int(try reader.read(UInt32.self))
        guard count >= 1,
            count * (hasStanding ? smallestNode : smallestNode - 1) <= reader.remaining
        else { throw reader.failure("\(count) nodes do not fit") }
        var nodes: [NodeRecord] = []
        for _ in 0..<count {
            let node = NodeID(try reader.read(UInt64.self))
            let incarnation = Incarnation(try reader.read(UInt64.self))
            let raw = hasStanding ? try reader.read(UInt8.self) : 0
            guard let standing = NodeStanding(rawValue: raw) else {
                throw reader.failure("unknown standing \(raw) of a node")
            }
            let name = try text(&reader)
            let address = try text(&reader)
            guard nodes.last.map({ $0.node < node }) ?? (node.rawValue > 0), node.rawValue < 1 << 62
            else { throw reader.failure("nodes are not in order") }
            nodes.append(
                NodeRecord(
                    node: node, name: name, address: address, incarnation: incarnation,
                    standing: standing))
        }
        let present = nodes.filter { $0.standing == .present }
        guard Set(present.map(\.name)).count == present.count else {
            throw reader.failure("two nodes have one name")
        }
        guard Set(nodes.map(\.incarnation)).count == nodes.count else {
            throw reader.failure("two nodes are one directory")
        }
        return nodes
    }

    private static func text(_ reader: inout ByteReader) throws(DecodeError) -> String {
        let bytes = try reader.readLengthPrefixed(limit: maxNameBytes)
        guard let text = String(validating: bytes.array, as: UTF8.self) else {
            throw reader.failure("a name that is not UTF-8")
        }
        return text
    }
}

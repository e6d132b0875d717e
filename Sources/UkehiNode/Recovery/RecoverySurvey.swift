// What a node says of itself when quorums may be lost, and what it is ordered to do then (RULES 74).
//
//   survey | version u8 = 1 | 7 × 0 | cluster 2 × u64 | node u64 | registry | heard u32 × u64
//          | standings u32 × standing | elsewhere u32 × descriptor |
//   standing | flags u64: 1 leads, 2 damaged, 4 changes to come | peer u64 | leader's node u64, 0: none
//            | term u64 | last term u64 | last index u64 | committed u64 | applied u64 | descriptor |
//   order  | version u8 = 1 | 7 × 0 | cluster 2 × u64 | registry | leads u32 × lead |
//   lead   | region u64 | peer u64 | last term u64 | last index u64 |

package import UkehiBase

/// How one peer of a node stands.
package struct PeerStanding: Hashable, Sendable {
    package var peer: PeerID
    /// As of `applied`; of a peer that joined later, at least as it was introduced.
    package var descriptor: RegionDescriptor
    package var isLeader: Bool
    /// Whom it last heard as its leader and still follows; nil: nobody.
    package var leader: NodeID?
    package var term: Term
    package var lastTerm: Term
    package var lastIndex: LogIndex
    package var committed: LogIndex
    package var applied: LogIndex
    /// Its log holds entries that cannot be read.
    package var isDamaged: Bool
    /// Changes of members stand in its log that it has not applied.
    package var hasChanges: Bool

    package var region: RegionID { descriptor.region }
    /// What Raft compares: the greater one knows whatever the other may have acknowledged.
    package var position: (term: Term, index: LogIndex) { (lastTerm, lastIndex) }
}

/// What a node says of itself.
package struct RecoverySurvey: Hashable, Sendable {
    package var cluster: ClusterID
    package var node: NodeID
    package var registry: NodeRegistry
    /// Nodes that it heard within the last seconds, ascending.
    package var heard: [NodeID]
    /// Ascending by region.
    package var standings: [PeerStanding]
    /// Regions of which it has no peer, as last known, ascending.
    package var elsewhere: [RegionDescriptor]

    package init(
        cluster: ClusterID, node: NodeID, registry: NodeRegistry, heard: [NodeID],
        standings: [PeerStanding], elsewhere: [RegionDescriptor]
    ) {
        self.cluster = cluster
        self.node = node
        self.registry = registry
        self.heard = heard
        self.standings = standings
        self.elsewhere = elsewhere
    }
}

/// What a survivor is to do. First all survivors get the registry alone, then those that lead something the
/// rest: nobody acts before everybody refuses the dead.
package struct RecoveryOrder: Hashable, Sendable {
    /// A peer that is to lead, if its log still ends where the plan says.
    package struct Lead: Hashable, Sendable {
        package var region: RegionID
        package var peer: PeerID
        package var lastTerm: Term
        package var lastIndex: LogIndex

        package init(region: RegionID, peer: PeerID, lastTerm: Term, lastIndex: LogIndex) {
            self.region = region
            self.peer = peer
            self.lastTerm = lastTerm
            self.lastIndex = lastIndex
        }
    }
    package var cluster: ClusterID
    package var registry: NodeRegistry
    package var leads: [Lead]

    package init(cluster: ClusterID, registry: NodeRegistry, leads: [Lead]) {
        self.cluster = cluster
        self.registry = registry
        self.leads = leads
    }
}

// MARK: - Bytes

private let formatVersion: UInt64 = 1

extension RecoverySurvey {
    package func encoded() -> Bytes {
        var writer = ByteWriter(chunkCapacity: 4096)
        writer.append(formatVersion)
        writer.append(cluster.high)
        writer.append(cluster.low)
        writer.append(node.rawValue)
        registry.encode(into: &writer)
        writer.append(UInt32(heard.count))
        for node in heard { writer.append(node.rawValue) }
        writer.append(UInt32(standings.count))
        for standing in standings { standing.encode(into: &writer) }
        writer.append(UInt32(elsewhere.count))
        for region in elsewhere { region.encode(into: &writer) }
        return writer.take()
    }

    package static func decode(_ bytes: Bytes) throws(DecodeError) -> RecoverySurvey {
        var reader = ByteReader(bytes)
        try expectVersion(&reader)
        let high = try reader.read(UInt64.self)
        let cluster = ClusterID(high: high, low: try reader.read(UInt64.self))
        let node = NodeID(try reader.read(UInt64.self))
        let registry = try NodeRegistry.decode(from: &reader)
        var heard: [NodeID] = []
        for _ in 0..<(try count(&reader, each: 8)) {
            heard.append(NodeID(try reader.read(UInt64.self)))
        }
        var standings: [PeerStanding] = []
        for _ in 0..<(try count(&reader, each: 64)) {
            let standing = try PeerStanding.decode(from: &reader)
            guard standings.last.map({ $0.region < standing.region }) ?? true else {
                throw reader.failure("standings are not in order")
            }
            standings.append(standing)
        }
        var elsewhere: [RegionDescriptor] = []
        for _ in 0..<(try count(&reader, each: 36)) {
            elsewhere.append(try RegionDescriptor.decode(from: &reader))
        }
        try reader.expectEnd()
        return RecoverySurvey(
            cluster: cluster, node: node, registry: registry, heard: heard, standings: standings,
            elsewhere: elsewhere)
    }
}

extension PeerStanding {
    fileprivate func encode(into writer: inout ByteWriter) {
        writer.append((isLeader ? 1 : 0) | (isDamaged ? 2 : 0) | (hasChanges ? 4 : 0) as UInt64)
        writer.append(peer.rawValue)
        writer.append(leader?.rawValue ?? 0)
        writer.append(term.rawValue)
        writer.append(lastTerm.rawValue)
        writer.append(lastIndex.rawValue)
        writer.append(committed.rawValue)
        writer.append(applied.rawValue)
        descriptor.encode(into: &writer)
    }

    fileprivate static func decode(from reader: inout ByteReader) throws(DecodeError) -> Self {
        let flags = try reader.read(UInt64.self)
        guard flags <= 7 else { throw reader.failure("unknown flags of a peer") }
        let peer = PeerID(try reader.read(UInt64.self))
        let leader = try reader.read(UInt64.self)
        let term = Term(try reader.read(UInt64.self))
        let lastTerm = Term(try reader.read(UInt64.self))
        let lastIndex = LogIndex(try reader.read(UInt64.self))
        let committed = LogIndex(try reader.read(UInt64.self))
        let applied = LogIndex(try reader.read(UInt64.self))
        return PeerStanding(
            peer: peer, descriptor: try RegionDescriptor.decode(from: &reader),
            isLeader: flags & 1 != 0, leader: leader == 0 ? nil : NodeID(leader), term: term,
            lastTerm: lastTerm, lastIndex: lastIndex, committed: committed, applied: applied,
            isDamaged: flags & 2 != 0, hasChanges: flags & 4 != 0)
    }
}

extension RecoveryOrder {
    package func encoded() -> Bytes {
        var writer = ByteWriter(chunkCapacity: 4096)
        writer.append(formatVersion)
        writer.append(cluster.high)
        writer.append(cluster.low)
        registry.encode(into: &writer)
        writer.append(UInt32(leads.count))
        for lead in leads {
            writer.append(lead.region.rawValue)
            writer.append(lead.peer.rawValue)
            writer.append(lead.lastTerm.rawValue)
            writer.append(lead.lastIndex.rawValue)
        }
        return writer.take()
    }

    package static func decode(_ bytes: Bytes) throws(DecodeError) -> RecoveryOrder {
        var reader = ByteReader(bytes)
        try expectVersion(&reader)
        let high = try reader.read(UInt64.self)
        let cluster = ClusterID(high: high, low: try reader.read(UInt64.self))
        let registry = try NodeRegistry.decode(from: &reader)
        var leads: [Lead] = []
        for _ in 0..<(try count(&reader, each: 32)) {
            let region = RegionID(try reader.read(UInt64.self))
            let peer = PeerID(try reader.read(UInt64.self))
            let term = Term(try reader.read(UInt64.self))
            leads.append(
                Lead(
                    region: region, peer: peer, lastTerm: term,
                    lastIndex: LogIndex(try reader.read(UInt64.self))))
        }
        try reader.expectEnd()
        return RecoveryOrder(cluster: cluster, registry: registry, leads: leads)
    }
}

private func expectVersion(_ reader: inout ByteReader) throws(DecodeError) {
    let version = try reader.read(UInt64.self)
    guard version == formatVersion else {
        throw reader.failure("recovery of unknown version \(version)")
    }
}

private func count(_ reader: inout ByteReader, each bytes: Int) throws(DecodeError) -> Int {
    let count = Int(try reader.read(UInt32.self))
    guard count <= reader.remaining / bytes else {
        throw reader.failure("\(count) items claimed in \(reader.remaining) bytes")
    }
    return count
}

// What a node says of itself when quorums may be lost, and what it is ordered to do then (RULES 74).
//
//   survey | version u8 = 1 | 7 × 0 | cluster 2 × u64 | node u64 | registry | heard u32 × u64
//          | standings u32 × standing | elsewhere u32 × descriptor |
//   standing | flags u64: 1 leads, 2 damaged, 4 changes to come | peer u64 | leader's node u64, 0: none
//            | term u64 | last term u64 | last index u64 | committed u64 | applied u64 | descriptor |
//   order  | version u8 = 3 | 7 × 0 | cluster 2 × u64 | registry | leads u32 × lead
//          | abandons u32 × (region u64, peer u64) | creates u32 × create |
//   lead   | region u64 | peer u64 | last term u64 | last index u64 |
//   create | version u64 | lower u16, bytes | upper u16, bytes |

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
    /// It never got anything: neither an entry nor a snapshot.
    package var isEmpty: Bool {
        lastIndex == .zero && committed == .zero && applied == .zero && !isDamaged
    }
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
/// rest: nobody acts before everybody refuses the dead. Ranges that nobody has are created last, by whoever
/// leads the system region then, once peers of them that hold nothing are out of the way.
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
    /// A peer that never got anything of a region that is lost, and goes.
    package struct Abandoned: Hashable, Sendable {
        package var region: RegionID
        package var peer: PeerID

        package init(region: RegionID, peer: PeerID) {
            self.region = region
            self.peer = peer
        }
    }
    /// A range that becomes an empty region.
    package struct Creation: Hashable, Sendable {
        package var range: KeyRange
        /// Of its epoch: above those of all that was known of these keys (RULES 24).
        package var version: UInt64

        package init(range: KeyRange, version: UInt64) {
            self.range = range
            self.version = version
        }
    }
    package var cluster: ClusterID
    package var registry: NodeRegistry
    package var leads: [Lead]
    package var abandons: [Abandoned]
    /// Ascending, apart from each other.
    package var creates: [Creation]

    package init(
        cluster: ClusterID, registry: NodeRegistry, leads: [Lead] = [], abandons: [Abandoned] = [],
        creates: [Creation] = []
    ) {
        self.cluster = cluster
        self.registry = registry
        self.leads = leads
        self.abandons = abandons
        self.creates = creates
    }
}

// MARK: - Bytes

private let surveyVersion: UInt64 = 1
private let orderVersion: UInt64 = 3

extension RecoverySurvey {
    package func encoded() -> Bytes {
        var writer = ByteWriter(chunkCapacity: 4096)
        writer.append(surveyVersion)
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
        try expect(surveyVersion, &reader)
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
        writer.append(orderVersion)
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
        writer.append(UInt32(abandons.count))
        for abandoned in abandons {
            writer.append(abandoned.region.rawValue)
            writer.append(abandoned.peer.rawValue)
        }
        writer.append(UInt32(creates.count))
        for creation in creates {
            writer.append(creation.version)
            for key in [creation.range.lower, creation.range.upper] {
                writer.append(UInt16(key.count))
                writer.append(key)
            }
        }
        return writer.take()
    }

    package static func decode(_ bytes: Bytes) throws(DecodeError) -> RecoveryOrder {
        var reader = ByteReader(bytes)
        try expect(orderVersion, &reader)
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
        var abandons: [Abandoned] = []
        for _ in 0..<(try count(&reader, each: 16)) {
            let region = RegionID(try reader.read(UInt64.self))
            abandons.append(
                Abandoned(region: region, peer: PeerID(try reader.read(UInt64.self))))
        }
        var creates: [Creation] = []
        for _ in 0..<(try count(&reader, each: 12)) {
            let creation = try Creation.decode(from: &reader)
            guard creates.last.map({ $0.range.isBefore(creation.range) }) ?? true else {
                throw reader.failure("ranges to create that are not in order")
            }
            creates.append(creation)
        }
        try reader.expectEnd()
        return RecoveryOrder(
            cluster: cluster, registry: registry, leads: leads, abandons: abandons,
            creates: creates)
    }
}

extension RecoveryOrder.Creation {
    fileprivate static func decode(from reader: inout ByteReader) throws(DecodeError) -> Self {
        let version = try reader.read(UInt64.self)
        guard version > 0, version < RegionDescriptor.numberLimit else {
            throw reader.failure("a region of version \(version)")
        }
        var keys: [Bytes] = []
        for _ in 0..<2 {
            let length = Int(try reader.read(UInt16.self))
            guard length <= Limits.maxKeyBytes else {
                throw reader.failure("a key of \(length) bytes")
            }
            keys.append(try reader.readBytes(length))
        }
        guard keys[1].isEmpty || keys[0] < keys[1] else { throw reader.failure("an empty range") }
        return Self(range: KeyRange(lower: keys[0], upper: keys[1]), version: version)
    }
}

extension KeyRange {
    /// Whether every key of it is below those of the other one.
    fileprivate func isBefore(_ other: KeyRange) -> Bool {
        !upper.isEmpty && upper <= other.lower
    }
}

private func expect(_ known: UInt64, _ reader: inout ByteReader) throws(DecodeError) {
    let version = try reader.read(UInt64.self)
    guard version == known else {
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

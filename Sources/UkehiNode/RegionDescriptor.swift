// What a region is: its range, its epoch and who holds it. Born with a region, stored in the log's
// birth record and, once it changed, in the state store (RegionBirth.swift, docs/FORMATS.md), known to
// routers and checked on every message.
//
//   descriptor | version u8 = 2 | kind u8 | flags u16: 1 leaves a joint configuration by itself |
//              | region u64 | confVersion u64 | version u64 |
//              | lower len u32, bytes | upper len u32, bytes | count u32 | peers |
//   peer       | peer u64 | node u64 | roles u8: 1 voter, 2 outgoing voter, 4 learner, 8 next learner |
//
// Version 1 knew no joint configurations: its flags were 0, its roles 0 voter and 1 learner.

package import UkehiBase
package import UkehiRaft
package import UkehiState

/// A peer's part in its group; in a joint configuration it may have two.
package typealias PeerRoles = SnapshotMember.Roles

/// One replica of a region: who votes, where it lives.
package struct PeerDescriptor: Hashable, Sendable {
    package var peer: PeerID
    package var node: NodeID
    package var roles: PeerRoles

    package init(peer: PeerID, node: NodeID, roles: PeerRoles = .voter) {
        self.peer = peer
        self.node = node
        self.roles = roles
    }

    /// Whether it has a say, in either half of a joint configuration.
    package var isVoter: Bool { !roles.isDisjoint(with: [.voter, .outgoingVoter]) }
}

/// A region's identity, range, epoch and members.
package struct RegionDescriptor: Hashable, Sendable {
    package var region: RegionID
    /// The system region owns no user keys; its range is over its own key space.
    package var isSystem: Bool
    package var range: KeyRange
    package var epoch: RegionEpoch
    /// Ascending by peer id; of a joint configuration both halves.
    package var peers: [PeerDescriptor]
    /// Whether a joint configuration is left as soon as that can be.
    package var leavesJoint: Bool

    package init(
        region: RegionID, isSystem: Bool, range: KeyRange, epoch: RegionEpoch,
        peers: [PeerDescriptor], leavesJoint: Bool = false
    ) {
        self.region = region
        self.isSystem = isSystem
        self.range = range
        self.epoch = epoch
        self.peers = peers
        self.leavesJoint = leavesJoint
    }

    /// The peer on `node`, if it has one.
    package func peer(on node: NodeID) -> PeerDescriptor? { peers.first { $0.node == node } }

    /// The member of this id, if it is one.
    package func member(_ peer: PeerID) -> PeerDescriptor? { peers.first { $0.peer == peer } }

    /// The node of `peer`, if it is a member.
    package func node(of peer: PeerID) -> NodeID? { member(peer)?.node }

    /// Whether two configurations decide together.
    package var isJoint: Bool { peers.contains { $0.roles.contains(.outgoingVoter) } }

    /// The membership as Raft's core takes it.
    package var configuration: ConfigurationState {
        func having(_ role: PeerRoles) -> [PeerID] {
            peers.filter { $0.roles.contains(role) }.map(\.peer)
        }
        return ConfigurationState(
            voters: having(.voter), learners: having(.learner),
            votersOutgoing: having(.outgoingVoter), learnersNext: having(.nextLearner),
            autoLeave: leavesJoint)
    }

    /// Epoch and members, for reports: `3.1 (p5@n1:1 p7@n2:4)`, with roles as in the bytes.
    package var membersInWords: String {
        "\(epoch) ("
            + peers.map { "\($0.peer)@\($0.node):\($0.roles.rawValue)" }.joined(separator: " ")
            + ")"
    }

    /// What routers are told.
    package func info(leader: NodeID?) -> RegionInfo {
        RegionInfo(
            region: region, range: range, epoch: epoch, leader: leader, nodes: peers.map(\.node))
    }
}

extension RegionDescriptor {
    private static let formatVersion: UInt8 = 2
    private static let leavesJointFlag: UInt16 = 1
    static let peerBytes = 17

    /// Appends the descriptor's bytes.
    package func encode(into writer: inout ByteWriter) {
        writer.append(Self.formatVersion)
        writer.append(UInt8(isSystem ? 1 : 0))
        writer.append(leavesJoint ? Self.leavesJointFlag : 0)
        writer.append(region.rawValue)
        writer.append(epoch.confVersion)
        writer.append(epoch.version)
        writer.appendLengthPrefixed(range.lower)
        writer.appendLengthPrefixed(range.upper)
        writer.append(UInt32(peers.count))
        for peer in peers {
            writer.append(peer.peer.rawValue)
            writer.append(peer.node.rawValue)
            writer.append(UInt8(truncatingIfNeeded: peer.roles.rawValue))
        }
    }

    /// The descriptor's bytes.
    package func encoded() -> Bytes {
        var writer = ByteWriter(chunkCapacity: 256)
        encode(into: &writer)
        return writer.take()
    }

    /// Reads a descriptor and nothing else.
    package static func decode(_ bytes: Bytes) throws(DecodeError) -> Self {
        var reader = ByteReader(bytes)
        let descriptor = try decode(from: &reader)
        try reader.expectEnd()
        return descriptor
    }

    /// No id or version comes near; one more can be added to what is below.
    package static let numberLimit: UInt64 = 1 << 62

    /// Reads a descriptor.
    package static func decode(from reader: inout ByteReader) throws(DecodeError) -> Self {
        let version = try reader.read(UInt8.self)
        guard version == 1 || version == formatVersion else {
            throw reader.failure("region descriptor of unknown version \(version)")
        }
        let kind = try reader.read(UInt8.self)
        guard kind <= 1 else { throw reader.failure("unknown region kind \(kind)") }
        let flags = try reader.read(UInt16.self)
        guard version == 1 || flags & ~leavesJointFlag == 0 else {
            throw reader.failure("unknown flags of a region descriptor")
        }
        let region = RegionID(try reader.read(UInt64.self))
        let confVersion = try reader.read(UInt64.self)
        let rangeVersion = try reader.read(UInt64.self)
        guard max(region.rawValue, confVersion, rangeVersion) < numberLimit else {
            throw reader.failure("a region's id or version is past every bound")
        }
        let lower = try reader.readLengthPrefixed(limit: Limits.maxKeyBytes)
        let upper = try reader.readLengthPrefixed(limit: Limits.maxKeyBytes)
        guard upper.isEmpty || lower < upper else {
            throw reader.failure("a region's range ends before it starts")
        }
        let peers = try decodePeers(from: &reader, version: version)
        let descriptor = RegionDescriptor(
            region: region, isSystem: kind == 1, range: KeyRange(lower: lower, upper: upper),
            epoch: RegionEpoch(confVersion: confVersion, version: rangeVersion), peers: peers,
            leavesJoint: version > 1 && flags & leavesJointFlag != 0)
        guard version == 1 || descriptor.isPossible else {
            throw reader.failure("no group can have these members")
        }
        return descriptor
    }

    private static func decodePeers(
        from reader: inout ByteReader, version: UInt8
    ) throws(DecodeError) -> [PeerDescriptor] {
        let count = Int(try reader.read(UInt32.self))
        guard count >= 1, count * peerBytes <= reader.remaining else {
            throw reader.failure("\(count) peers do not fit")
        }
        var peers: [PeerDescriptor] = []
        peers.reserveCapacity(count)
        for _ in 0..<count {
            let peer = PeerID(try reader.read(UInt64.self))
            let node = NodeID(try reader.read(UInt64.self))
            let stored = try reader.read(UInt8.self)
            guard let roles = roles(stored, version: version), peer.isValid,
                max(peer.rawValue, node.rawValue) < numberLimit
            else {
                throw reader.failure("malformed peer")
            }
            guard peers.last.map({ $0.peer < peer }) ?? true else {
                throw reader.failure("peers are not in order")
            }
            peers.append(PeerDescriptor(peer: peer, node: node, roles: roles))
        }
        return peers
    }

    private static func roles(_ stored: UInt8, version: UInt8) -> PeerRoles? {
        if version == 1 { return stored == 0 ? .voter : stored == 1 ? .learner : nil }
        let roles = PeerRoles(rawValue: UInt64(stored))
        return PeerRoles.allowed.contains(roles) ? roles : nil
    }

    /// Whether a group can have these members: somebody votes, and no node has two peers.
    private var isPossible: Bool {
        guard peers.contains(where: { $0.roles.contains(.voter) }), !leavesJoint || isJoint else {
            return false
        }
        return Set(peers.map(\.node)).count == peers.count
    }
}

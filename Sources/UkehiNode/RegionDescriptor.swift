// What a region is: its range, its epoch and who holds it. Born with a region, stored in the log's
// birth record, known to routers and checked on every message.
//
//   descriptor | version u8 = 1 | kind u8 | 0 u16 | region u64 | confVersion u64 | version u64 |
//              | lower len u32, bytes | upper len u32, bytes | count u32 | peers |
//   peer       | peer u64 | node u64 | role u8 |

package import UkehiBase
package import UkehiRaft

/// A peer's part in its group.
package enum PeerRole: UInt8, Sendable, Hashable {
    case voter = 0
    case learner = 1
}

/// One replica of a region: who votes, where it lives.
package struct PeerDescriptor: Hashable, Sendable {
    package var peer: PeerID
    package var node: NodeID
    package var role: PeerRole

    package init(peer: PeerID, node: NodeID, role: PeerRole = .voter) {
        self.peer = peer
        self.node = node
        self.role = role
    }
}

/// A region's identity, range, epoch and members.
package struct RegionDescriptor: Hashable, Sendable {
    package var region: RegionID
    /// The system region owns no user keys; its range is over its own key space.
    package var isSystem: Bool
    package var range: KeyRange
    package var epoch: RegionEpoch
    /// Ascending by peer id.
    package var peers: [PeerDescriptor]

    package init(
        region: RegionID, isSystem: Bool, range: KeyRange, epoch: RegionEpoch,
        peers: [PeerDescriptor]
    ) {
        self.region = region
        self.isSystem = isSystem
        self.range = range
        self.epoch = epoch
        self.peers = peers
    }

    /// The peer on `node`, if it has one.
    package func peer(on node: NodeID) -> PeerDescriptor? { peers.first { $0.node == node } }

    /// The node of `peer`, if it is a member.
    package func node(of peer: PeerID) -> NodeID? { peers.first { $0.peer == peer }?.node }

    /// The membership as Raft's core takes it.
    package var configuration: ConfigurationState {
        ConfigurationState(
            voters: peers.filter { $0.role == .voter }.map(\.peer),
            learners: peers.filter { $0.role == .learner }.map(\.peer))
    }

    /// What routers are told.
    package func info(leader: NodeID?) -> RegionInfo {
        RegionInfo(
            region: region, range: range, epoch: epoch, leader: leader, nodes: peers.map(\.node))
    }
}

extension RegionDescriptor {
    private static let formatVersion: UInt8 = 1

    /// Appends the descriptor's bytes.
    package func encode(into writer: inout ByteWriter) {
        writer.append(Self.formatVersion)
        writer.append(UInt8(isSystem ? 1 : 0))
        writer.append(UInt16(0))
        writer.append(region.rawValue)
        writer.append(epoch.confVersion)
        writer.append(epoch.version)
        writer.appendLengthPrefixed(range.lower)
        writer.appendLengthPrefixed(range.upper)
        writer.append(UInt32(peers.count))
        for peer in peers {
            writer.append(peer.peer.rawValue)
            writer.append(peer.node.rawValue)
            writer.append(peer.role.rawValue)
        }
    }

    /// The descriptor's bytes.
    package func encoded() -> Bytes {
        var writer = ByteWriter(chunkCapacity: 256)
        encode(into: &writer)
        return writer.take()
    }

    /// Reads a descriptor.
    package static func decode(from reader: inout ByteReader) throws(DecodeError) -> Self {
        let version = try reader.read(UInt8.self)
        guard version == formatVersion else {
            throw reader.failure("region descriptor of unknown version \(version)")
        }
        let kind = try reader.read(UInt8.self)
        guard kind <= 1 else { throw reader.failure("unknown region kind \(kind)") }
        _ = try reader.read(UInt16.self)
        let region = RegionID(try reader.read(UInt64.self))
        let confVersion = try reader.read(UInt64.self)
        let rangeVersion = try reader.read(UInt64.self)
        let lower = try reader.readLengthPrefixed(limit: Limits.maxKeyBytes)
        let upper = try reader.readLengthPrefixed(limit: Limits.maxKeyBytes)
        guard upper.isEmpty || lower < upper else {
            throw reader.failure("a region's range ends before it starts")
        }
        let count = Int(try reader.read(UInt32.self))
        guard count >= 1, count * 17 <= reader.remaining else {
            throw reader.failure("\(count) peers do not fit")
        }
        var peers: [PeerDescriptor] = []
        peers.reserveCapacity(count)
        for _ in 0..<count {
            let peer = PeerID(try reader.read(UInt64.self))
            let node = NodeID(try reader.read(UInt64.self))
            guard let role = PeerRole(rawValue: try reader.read(UInt8.self)), peer != .none else {
                throw reader.failure("malformed peer")
            }
            guard peers.last.map({ $0.peer < peer }) ?? true else {
                throw reader.failure("peers are not in order")
            }
            peers.append(PeerDescriptor(peer: peer, node: node, role: role))
        }
        return RegionDescriptor(
            region: region, isSystem: kind == 1, range: KeyRange(lower: lower, upper: upper),
            epoch: RegionEpoch(confVersion: confVersion, version: rangeVersion), peers: peers)
    }
}

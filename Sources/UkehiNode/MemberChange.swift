// A change of a region's members as an entry of its log: which configuration it is of, what it does, and
// where new peers live, so that every replica learns that from the log.
//
//   change  | a ConfigurationChange of UkehiRaft, whose context is |
//   context | version u8 = 1 | 0 u8 | count u16 | 0 u32 | confVersion u64 | count × (peer u64, node u64) |
//
// The entry that leaves a joint configuration has neither steps nor context: the core proposes it.
//
// What a committed change comes to depends on the region as the entry before left it and on nothing
// else: every replica takes it, or every replica skips it (RULES 9).

package import UkehiBase
package import UkehiRaft
import UkehiState

/// Where peers live, and the configuration that a change was made for.
package struct MemberContext: Hashable, Sendable {
    /// A peer that the change adds, and its node.
    package struct Place: Hashable, Sendable {
        package var peer: PeerID
        package var node: NodeID
        package init(peer: PeerID, node: NodeID) {
            self.peer = peer
            self.node = node
        }
    }
    /// The change is void if the region has another one when its turn comes (RULES 22).
    package var confVersion: UInt64
    package var places: [Place]

    package init(confVersion: UInt64, places: [Place]) {
        self.confVersion = confVersion
        self.places = places
    }

    private static let formatVersion: UInt8 = 1

    /// The context's bytes.
    package func encoded() -> Bytes {
        var writer = ByteWriter(chunkCapacity: 16 + 16 * places.count)
        writer.append(Self.formatVersion)
        writer.append(UInt8(0))
        writer.append(UInt16(clamping: places.count))
        writer.append(UInt32(0))
        writer.append(confVersion)
        for place in places {
            writer.append(place.peer.rawValue)
            writer.append(place.node.rawValue)
        }
        return writer.take()
    }

    /// Reads a context.
    package static func decode(_ bytes: Bytes) throws(DecodeError) -> MemberContext {
        var reader = ByteReader(bytes)
        let version = try reader.read(UInt8.self)
        guard version == formatVersion else {
            throw reader.failure("members of unknown version \(version)")
        }
        guard try reader.read(UInt8.self) == 0 else { throw reader.failure("unknown flags") }
        let count = Int(try reader.read(UInt16.self))
        guard try reader.read(UInt32.self) == 0 else { throw reader.failure("unknown flags") }
        let confVersion = try reader.read(UInt64.self)
        guard reader.remaining == count * 16 else {
            throw reader.failure("\(count) peers do not fit")
        }
        var places: [Place] = []
        places.reserveCapacity(count)
        for _ in 0..<count {
            let peer = PeerID(try reader.read(UInt64.self))
            places.append(Place(peer: peer, node: NodeID(try reader.read(UInt64.self))))
        }
        return MemberContext(confVersion: confVersion, places: places)
    }
}

/// Why a committed change is skipped, by every replica alike.
package enum VoidChange: Error, Hashable, Sendable {
    /// It was made for another configuration.
    case stale
    /// Its bytes, its steps or its places make no sense.
    case malformed
    /// Raft's rules do not allow it.
    case impossible(MembershipError)
}

extension RegionDescriptor {
    /// The region after a committed entry that changes its members.
    package func applying(
        _ change: ConfigurationChange
    ) throws(VoidChange) -> RegionDescriptor {
        var places: [MemberContext.Place] = []
        if change != .leaveJoint {
            guard let context = try? MemberContext.decode(change.context) else { throw .malformed }
            guard context.confVersion == epoch.confVersion else { throw .stale }
            places = context.places
            try check(change, places)
        }
        let next: Configuration
        do throws(MembershipError) {
            next = try Configuration(validating: configuration).applying(change)
        } catch {
            throw .impossible(error)
        }
        return try following(next.state, places)
    }

    private func check(
        _ change: ConfigurationChange, _ places: [MemberContext.Place]
    ) throws(VoidChange) {
        // No member leaves and comes back at once: it would be a new peer (RULES 16).
        let stepped = change.steps.map(\.peer)
        guard !stepped.isEmpty, Set(stepped).count == stepped.count,
            change.steps.allSatisfy({ $0.kind != .update && $0.peer.isValid })
        else { throw .malformed }
        let newest = peers.last?.peer ?? .none
        for place in places {
            guard max(place.peer.rawValue, place.node.rawValue) < Self.numberLimit else {
                throw .malformed
            }
            if let member = member(place.peer) {
                guard member.node == place.node else { throw .malformed }
            } else if place.peer <= newest {
                // Ids ascend: this one was somebody's before (RULES 17).
                throw .malformed
            }
        }
    }

    private func following(
        _ state: ConfigurationState, _ places: [MemberContext.Place]
    ) throws(VoidChange) -> RegionDescriptor {
        var roles: [PeerID: PeerRoles] = [:]
        for peer in state.voters { roles[peer, default: []].insert(.voter) }
        for peer in state.votersOutgoing { roles[peer, default: []].insert(.outgoingVoter) }
        for peer in state.learners { roles[peer, default: []].insert(.learner) }
        for peer in state.learnersNext { roles[peer, default: []].insert(.nextLearner) }
        var next = self
        next.epoch.confVersion += 1
        next.leavesJoint = state.autoLeave
        next.peers = []
        for (peer, roles) in roles.sorted(by: { $0.key < $1.key }) {
            let node = node(of: peer) ?? places.first { $0.peer == peer }?.node
            guard let node else { throw .malformed }
            next.peers.append(PeerDescriptor(peer: peer, node: node, roles: roles))
        }
        guard Set(next.peers.map(\.node)).count == next.peers.count else { throw .malformed }
        return next
    }
}

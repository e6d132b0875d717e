// What a snapshot says of itself: whose state it is, as of when, and who held it then (RULES 47).
//
//   0    magic "UKEHISNP"
//   8    checksum u32 of all from 12 on
//   12   version u32 = 1 | header bytes u32 | flags u32: 1 the system region
//   24   snapshot id u64 | cluster 2 x u64 | region u64 | epoch: confVersion u64, version u64 |
//        index u64 | term u64
//   88   content u32: 1 keys and values, 2 a state machine's pieces | member flags u32: 1 leave the joint configuration by itself |
//        members u32 | lower bytes u32 | upper bytes u32 | 0 u32
//   112  members, ascending: peer u64 | node u64 | roles u64; lower; upper

package import UkehiBase

/// One member of the region and its part in the configuration.
package struct SnapshotMember: Hashable, Sendable {
    /// What a peer is; of a joint configuration it may be two things.
    package struct Roles: OptionSet, Hashable, Sendable {
        package let rawValue: UInt64
        package init(rawValue: UInt64) { self.rawValue = rawValue }
        /// Votes; in a joint configuration: in the incoming half.
        package static let voter = Roles(rawValue: 1)
        /// Votes in the outgoing half.
        package static let outgoingVoter = Roles(rawValue: 2)
        package static let learner = Roles(rawValue: 4)
        /// Becomes a learner when the joint configuration is left.
        package static let nextLearner = Roles(rawValue: 8)

        /// Those that Raft's configurations have (RULES 10 to 12).
        package static let allowed: [Roles] = [
            [.voter], [.outgoingVoter], [.voter, .outgoingVoter], [.learner],
            [.outgoingVoter, .nextLearner],
        ]
    }
    package var peer: PeerID
    package var node: NodeID
    package var roles: Roles

    package init(peer: PeerID, node: NodeID, roles: Roles) {
        self.peer = peer
        self.node = node
        self.roles = roles
    }
}

/// What the pairs of a snapshot are.
package enum SnapshotContent: UInt32, Hashable, Sendable {
    /// Keys and values of the region's range.
    case keyValue = 1
    /// Pieces of what an embedder's state machine wrote: the value, under a number that grows.
    case machine = 2
}

/// What a snapshot is of.
package struct SnapshotHeader: Hashable, Sendable {
    /// Random, so that no two snapshots' frames pass for each other's.
    package var snapshot: UInt64
    package var cluster: ClusterID
    package var region: RegionID
    package var isSystem: Bool
    package var content = SnapshotContent.keyValue
    package var range: KeyRange
    package var epoch: RegionEpoch
    /// Ascending by peer.
    package var members: [SnapshotMember]
    /// Whether a joint configuration is left as soon as that can be.
    package var leavesJoint: Bool
    /// The state is that after this entry; zero: of a region that has applied nothing.
    package var index: LogIndex
    package var term: Term

    package init(
        snapshot: UInt64, cluster: ClusterID, region: RegionID, isSystem: Bool = false,
        content: SnapshotContent = .keyValue, range: KeyRange, members: [SnapshotMember],
        leavesJoint: Bool = false, state: RegionState
    ) {
        self.snapshot = snapshot
        self.cluster = cluster
        self.region = region
        self.isSystem = isSystem
        self.content = content
        self.range = range
        self.epoch = state.epoch
        self.members = members
        self.leavesJoint = leavesJoint
        self.index = state.applied
        self.term = state.appliedTerm
    }
}

extension SnapshotHeader {
    /// What the keys of the snapshot's pairs lie in.
    var keyRange: KeyRange {
        content == .machine ? KeyRange(lower: Bytes(), upper: Bytes()) : range
    }
    private static let memberBytes = 24
    private static let maxMembers = 1024
    /// No id, version, term or index comes near; one more can be added to what is below.
    private static let numberLimit: UInt64 = 1 << 62

    /// More than a region ever remembers: each costs memory where the snapshot is installed.
    private static let maxSessions: UInt32 = 1 << 14

    /// Why no region can have this state; nil for a right one.
    static func fault(of state: RegionState) -> String? {
        if state.revision >= numberLimit { return "the region's revision is out of bounds" }
        return state.sessions > maxSessions ? "the region has \(state.sessions) sessions" : nil
    }

    /// Why no snapshot can have this header; nil for a right one.
    var fault: String? {
        if region.rawValue == 0 { return "it is of no region" }
        if range.lower.count > CommandLimits.maxKeyBytes
            || range.upper.count > CommandLimits.maxKeyBytes
        {
            return "its range has a bound that is longer than a key"
        }
        let numbers = [
            region.rawValue, epoch.confVersion, epoch.version, index.rawValue, term.rawValue,
        ]
        if numbers.contains(where: { $0 >= Self.numberLimit }) {
            return "one of its numbers is out of bounds"
        }
        if (index == .zero) != (term == .zero) { return "its index and term contradict each other" }
        if members.count > Self.maxMembers { return "it has \(members.count) members" }
        if !members.contains(where: { $0.roles.contains(.voter) }) { return "nobody votes" }
        for (position, member) in members.enumerated() {
            if member.peer == .none || member.peer.rawValue >= Self.numberLimit
                || member.node.rawValue >= Self.numberLimit
                || !SnapshotMember.Roles.allowed.contains(member.roles)
            {
                return "a member is malformed"
            }
            if position > 0, members[position - 1].peer >= member.peer {
                return "its members are not in order"
            }
        }
        if Set(members.map(\.node)).count < members.count { return "a node has two members" }
        if leavesJoint, !members.contains(where: { $0.roles.contains(.outgoingVoter) }) {
            return "it leaves a joint configuration that it is not in"
        }
        return nil
    }

    /// The header's bytes and their checksum, which every frame's goes on from.
    func encoded() throws(SnapshotError) -> (bytes: Bytes, checksum: UInt32) {
        if let fault { throw .refused("\(fault)") }
        var writer = ByteWriter(chunkCapacity: 1024)
        writer.append(SnapshotFormat.magic)
        writer.append(UInt32(0))
        writer.append(SnapshotFormat.version)
        writer.append(UInt32(0))
        writer.append(UInt32(isSystem ? 1 : 0))
        for value in [
            snapshot, cluster.high, cluster.low, region.rawValue, epoch.confVersion, epoch.version,
            index.rawValue, term.rawValue,
        ] {
            writer.append(value)
        }
        writer.append(content.rawValue)
        writer.append(UInt32(leavesJoint ? 1 : 0))
        writer.append(UInt32(members.count))
        writer.append(UInt32(range.lower.count))
        writer.append(UInt32(range.upper.count))
        writer.append(UInt32(0))
        for member in members {
            writer.append(member.peer.rawValue)
            writer.append(member.node.rawValue)
            writer.append(member.roles.rawValue)
        }
        writer.append(range.lower)
        writer.append(range.upper)
        writer.overwrite(UInt32(writer.count), at: 16)
        let checksum = writer.withUnsafeBytes {
            CRC32C.checksum(UnsafeRawBufferPointer(rebasing: $0[12...]))
        }
        writer.overwrite(checksum, at: 8)
        return (writer.take(), checksum)
    }

    /// How long the header is that begins with these ``SnapshotFormat/fixedHeaderBytes`` bytes; later
    /// versions have length, checksum and version in the same places, and this bound.
    static func byteCount(_ bytes: Bytes) throws(SnapshotError) -> Int {
        guard bytes[0..<8] == SnapshotFormat.magic else {
            throw .damaged("it does not begin as a snapshot does", frame: nil, offset: 0)
        }
        return try bytes.withUnsafeBytes { raw throws(SnapshotError) in
            let count = Int(raw.u32(at: 16))
            guard count >= SnapshotFormat.fixedHeaderBytes, count <= SnapshotLimits.maxHeaderBytes
            else {
                throw .damaged("a header of \(count) bytes", frame: nil, offset: 0)
            }
            return count
        }
    }

    /// Reads a whole header.
    static func decode(
        _ bytes: Bytes
    ) throws(SnapshotError) -> (header: SnapshotHeader, checksum: UInt32) {
        func damaged(_ reason: String) -> SnapshotError {
            .damaged(reason, frame: nil, offset: 0)
        }
        return try bytes.withUnsafeBytes { raw throws(SnapshotError) in
            let checksum = CRC32C.checksum(UnsafeRawBufferPointer(rebasing: raw[12...]))
            guard raw.u32(at: 8) == checksum else {
                throw damaged("its header fails its checksum")
            }
            let version = raw.u32(at: 12)
            guard version == SnapshotFormat.version else {
                throw .newer("its format is version \(version), this program reads 1")
            }
            guard raw.u32(at: 20) <= 1, raw.u32(at: 92) <= 1, raw.u32(at: 108) == 0 else {
                throw .newer("its header has flags that this program does not know")
            }
            guard let content = SnapshotContent(rawValue: raw.u32(at: 88)) else {
                throw .newer(
                    "its state is of format \(raw.u32(at: 88)), this program reads 1 and 2")
            }
            let members = Int(raw.u32(at: 96))
            let lower = Int(raw.u32(at: 100))
            let upper = Int(raw.u32(at: 104))
            let rangeStart = SnapshotFormat.fixedHeaderBytes + members * memberBytes
            guard rangeStart + lower + upper == raw.count else {
                throw damaged("its header's lengths do not add up")
            }
            let range = (
                lower: bytes[rangeStart..<rangeStart + lower],
                upper: bytes[rangeStart + lower..<raw.count]
            )
            guard range.upper.isEmpty || range.lower < range.upper else {
                throw damaged("its range ends before it starts")
            }
            let header = SnapshotHeader(
                snapshot: raw.u64(at: 24),
                cluster: ClusterID(high: raw.u64(at: 32), low: raw.u64(at: 40)),
                region: RegionID(raw.u64(at: 48)), isSystem: raw.u32(at: 20) == 1,
                content: content,
                range: KeyRange(lower: range.lower, upper: range.upper),
                members: (0..<members).map { position in
                    let at = SnapshotFormat.fixedHeaderBytes + position * memberBytes
                    return SnapshotMember(
                        peer: PeerID(raw.u64(at: at)), node: NodeID(raw.u64(at: at + 8)),
                        roles: SnapshotMember.Roles(rawValue: raw.u64(at: at + 16)))
                },
                leavesJoint: raw.u32(at: 92) == 1,
                state: RegionState(
                    applied: LogIndex(raw.u64(at: 72)), appliedTerm: Term(raw.u64(at: 80)),
                    epoch: RegionEpoch(
                        confVersion: raw.u64(at: 56), version: raw.u64(at: 64))))
            if let fault = header.fault { throw damaged("\(fault)") }
            return (header, checksum)
        }
    }
}

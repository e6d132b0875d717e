// How a region came to be on a node: the body of its birth record in the log, and of its tombstone.
//
//   birth     | origin: descriptor | [ introduction: descriptor ] |
//   tombstone | version u8 = 1 | 7 × 0 | peer u64 | confVersion u64 | version u64 | last: descriptor |
//
// The origin is the region as its log begins: what a replica that replays the log from index 1 starts
// with. A peer that was added later is born by a leader's introduction, in which it is a member; its own
// configuration, that of what it has applied, goes there from the origin step by step, as on every other
// replica (RULES 9, 19). A tombstone is kept for good: its peer never comes back (RULES 16, 20).

package import UkehiBase

/// What a peer knows of its region at birth.
package struct RegionBirth: Hashable, Sendable {
    /// The region before its first entry.
    package var origin: RegionDescriptor
    /// The region as the leader had it who had this peer created; nil: the peer is of the first ones.
    package var introduction: RegionDescriptor?

    package init(origin: RegionDescriptor, introduction: RegionDescriptor? = nil) {
        self.origin = origin
        self.introduction = introduction
    }

    package var region: RegionID { origin.region }

    /// The descriptor that names this node's peer.
    package var naming: RegionDescriptor { introduction ?? origin }

    /// The birth record's body.
    package func encoded() -> Bytes {
        var writer = ByteWriter(chunkCapacity: 512)
        origin.encode(into: &writer)
        introduction?.encode(into: &writer)
        return writer.take()
    }

    /// Reads a birth record's body.
    package static func decode(_ bytes: Bytes) throws(DecodeError) -> RegionBirth {
        var reader = ByteReader(bytes)
        let origin = try RegionDescriptor.decode(from: &reader)
        guard reader.remaining > 0 else { return RegionBirth(origin: origin) }
        let introduction = try RegionDescriptor.decode(from: &reader)
        try reader.expectEnd()
        guard introduction.region == origin.region, introduction.isSystem == origin.isSystem,
            introduction.epoch.confVersion >= origin.epoch.confVersion
        else { throw reader.failure("an introduction that does not go with its origin") }
        return RegionBirth(origin: origin, introduction: introduction)
    }
}

/// What stays of a peer that is gone from its node.
package struct RegionTombstone: Hashable, Sendable {
    /// The peer that was here; none with its id or a lower one comes back.
    package var peer: PeerID
    /// The epoch at which it was a member no more.
    package var epoch: RegionEpoch
    /// The region as last known here: whose data goes, and who may know more.
    package var last: RegionDescriptor

    package init(peer: PeerID, epoch: RegionEpoch, last: RegionDescriptor) {
        self.peer = peer
        self.epoch = epoch
        self.last = last
    }

    private static let formatVersion: UInt8 = 1

    /// The tombstone record's body.
    package func encoded() -> Bytes {
        var writer = ByteWriter(chunkCapacity: 256)
        writer.append(UInt64(Self.formatVersion))
        writer.append(peer.rawValue)
        writer.append(epoch.confVersion)
        writer.append(epoch.version)
        last.encode(into: &writer)
        return writer.take()
    }

    /// Reads a tombstone record's body.
    package static func decode(_ bytes: Bytes) throws(DecodeError) -> RegionTombstone {
        var reader = ByteReader(bytes)
        let version = try reader.read(UInt64.self)
        guard version == UInt64(formatVersion) else {
            throw reader.failure("a tombstone of unknown version \(version)")
        }
        let peer = PeerID(try reader.read(UInt64.self))
        let confVersion = try reader.read(UInt64.self)
        let rangeVersion = try reader.read(UInt64.self)
        let last = try RegionDescriptor.decode(from: &reader)
        try reader.expectEnd()
        return RegionTombstone(
            peer: peer, epoch: RegionEpoch(confVersion: confVersion, version: rangeVersion),
            last: last)
    }
}

// How a region came to be on a node: the body of its birth record in the log, and of its tombstone.
//
//   birth     | origin: descriptor | [ introduction: descriptor ] | [ parting ] |
//   parting   | tag u8 = 0xf1 | parent u64 | the parent's peer here u64 | index u64 |
//   tombstone | version u8 = 1 | 7 × 0 | peer u64 | confVersion u64 | version u64 | last: descriptor |
//
// The origin is the region as its log begins: what a replica that replays the log from index 1 starts
// with. A peer that was added later is born by a leader's introduction, in which it is a member; its own
// configuration, that of what it has applied, goes there from the origin step by step, as on every other
// replica (RULES 9, 19). A region that came out of another one has a parting: where in that one's log it
// was divided. Its keys are there once its parent here has applied that. A tombstone is kept for good: its peer never comes back (RULES 16, 20).

package import UkehiBase

/// What a peer knows of its region at birth.
package struct RegionBirth: Hashable, Sendable {
    /// The region before its first entry.
    package var origin: RegionDescriptor
    /// The region as the leader had it who had this peer created; nil: the peer is of the first ones.
    package var introduction: RegionDescriptor?
    /// The entry that the region came out of; nil: it is of the cluster's first ones.
    package var parting: Parting?

    /// Where a region was divided.
    package struct Parting: Hashable, Sendable {
        package var parent: RegionID
        /// The parent's peer on this node, or on that of the leader who introduces a later peer.
        package var peer: PeerID
        package var index: LogIndex

        package init(parent: RegionID, peer: PeerID, index: LogIndex) {
            self.parent = parent
            self.peer = peer
            self.index = index
        }
    }

    package init(
        origin: RegionDescriptor, introduction: RegionDescriptor? = nil, parting: Parting? = nil
    ) {
        self.origin = origin
        self.introduction = introduction
        self.parting = parting
    }

    package var region: RegionID { origin.region }

    /// The descriptor that names this node's peer.
    package var naming: RegionDescriptor { introduction ?? origin }

    /// The birth record's body.
    package func encoded() -> Bytes {
        var writer = ByteWriter(chunkCapacity: 512)
        origin.encode(into: &writer)
        introduction?.encode(into: &writer)
        if let parting {
            writer.append(Self.partingTag)
            writer.append(parting.parent.rawValue)
            writer.append(parting.peer.rawValue)
            writer.append(parting.index.rawValue)
        }
        return writer.take()
    }

    /// Reads a birth record's body.
    package static func decode(_ bytes: Bytes) throws(DecodeError) -> RegionBirth {
        var reader = ByteReader(bytes)
        let origin = try RegionDescriptor.decode(from: &reader)
        var introduction: RegionDescriptor?
        var parting = try decodeParting(from: &reader)
        if parting == nil, reader.remaining > 0 {
            let found = try RegionDescriptor.decode(from: &reader)
            guard found.region == origin.region, found.isSystem == origin.isSystem,
                found.epoch.confVersion >= origin.epoch.confVersion,
                found.epoch.version >= origin.epoch.version
            else { throw reader.failure("an introduction that does not go with its origin") }
            introduction = found
            parting = try decodeParting(from: &reader)
        }
        try reader.expectEnd()
        guard parting.map({ $0.parent != origin.region && $0.index > .zero }) ?? true else {
            throw reader.failure("a region that came out of itself")
        }
        return RegionBirth(origin: origin, introduction: introduction, parting: parting)
    }

    /// No descriptor begins with it.
    private static let partingTag: UInt8 = 0xf1

    private static func decodeParting(
        from reader: inout ByteReader
    ) throws(DecodeError) -> Parting? {
        var ahead = reader
        guard reader.remaining > 0, try ahead.read(UInt8.self) == partingTag else { return nil }
        let parent = RegionID(try ahead.read(UInt64.self))
        let peer = PeerID(try ahead.read(UInt64.self))
        let index = LogIndex(try ahead.read(UInt64.self))
        reader = ahead
        return Parting(parent: parent, peer: peer, index: index)
    }
}

extension RegionBirth {
    /// Where the group's log begins for this peer: one whose log is shorter needs a snapshot, since nothing
    /// may be replayed from before a region was divided: the keys are another region's now.
    var logBegins: LogIndex {
        if parting != nil { return SplitRules.firstApplied }
        return naming.epoch.version > origin.epoch.version ? LogIndex(1) : .zero
    }

    /// The region as it is known here: as of what is applied, or as it was introduced. Both are of one log, so
    /// that neither part of an epoch is lower in the newer one; it may differ in either alone (seed 7100012
    /// of `splits`: in its version).
    func newest(_ applied: RegionDescriptor) -> RegionDescriptor {
        naming.epoch.confVersion > applied.epoch.confVersion
            || naming.epoch.version > applied.epoch.version ? naming : applied
    }

    /// What the peer holds before anything is applied.
    package var firstRange: KeyRange {
        naming.epoch.version > origin.epoch.version ? naming.range : origin.range
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

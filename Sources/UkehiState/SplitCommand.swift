// How a region is divided: part by part from its lower end; what is left above the last part is the region
// itself, so that keys that are appended stay where they were (RULES 27).
//
//   parts | count u32 | count x part |
//   part  | region u64 | first leader u64 | end len u32, bytes | count u32 | count x peer u64 |
//
//   region  [a ........................................ z)
//   parts   [a ... k1) [k1 ... k2)                            new regions, of the same nodes
//                                  [k2 ................ z)    the region, with its id
//
// Peers are given in the order of the region's own: the first one lives where its first one does. Ids are
// allocated before the command is proposed, and used by nobody if it comes to nothing (RULES 17).

package import UkehiBase

/// The new regions that come out of one.
package struct SplitCommand: Hashable, Sendable {
    /// A new region.
    package struct Part: Hashable, Sendable {
        package var region: RegionID
        /// Where it ends; it begins where the part before it ends, or the divided region does.
        package var end: Bytes
        /// Leads it first, without a vote.
        package var leader: PeerID
        package var peers: [PeerID]

        package init(region: RegionID, end: Bytes, leader: PeerID, peers: [PeerID]) {
            self.region = region
            self.end = end
            self.leader = leader
            self.peers = peers
        }
    }
    /// Ascending; at least one.
    package var parts: [Part]

    package init(parts: [Part]) { self.parts = parts }

    package static let maxParts = 64
    private static let maxPeers = 64

    package func encode(into writer: inout ByteWriter) {
        writer.append(UInt32(parts.count))
        for part in parts {
            writer.append(part.region.rawValue)
            writer.append(part.leader.rawValue)
            writer.appendLengthPrefixed(part.end)
            writer.append(UInt32(part.peers.count))
            for peer in part.peers { writer.append(peer.rawValue) }
        }
    }

    /// Reads the parts and nothing else.
    init(content: Bytes) throws(EntryError) {
        do throws(DecodeError) {
            var reader = ByteReader(content)
            let count = Int(try reader.read(UInt32.self))
            guard count >= 1, count <= Self.maxParts else {
                throw reader.failure("\(count) parts of a region")
            }
            parts = []
            for _ in 0..<count {
                let region = RegionID(try reader.read(UInt64.self))
                let leader = PeerID(try reader.read(UInt64.self))
                let end = try reader.readLengthPrefixed(limit: CommandLimits.maxKeyBytes)
                let peerCount = Int(try reader.read(UInt32.self))
                guard peerCount >= 1, peerCount <= Self.maxPeers else {
                    throw reader.failure("\(peerCount) peers of a part")
                }
                var peers: [PeerID] = []
                for _ in 0..<peerCount { peers.append(PeerID(try reader.read(UInt64.self))) }
                parts.append(Part(region: region, end: end, leader: leader, peers: peers))
            }
            try reader.expectEnd()
        } catch {
            throw .malformed
        }
    }
}

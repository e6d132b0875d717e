// The one record a cluster begins with: who is in it and which regions there are. The node with the
// lowest name makes it, every node persists it before its first vote, and no second one can come
// to be: a directory takes a record only while it has none (DESIGN 7, RULES 16).
//
//   record | version u8 | cluster 2 × u64 | next id u64 | count u32 | nodes | count u32 | descriptors |
//   node   | node u64 | incarnation u64 | name (len u32, bytes) | address (len u32, bytes) |

package import UkehiBase
import UkehiState

/// A node as the cluster knows it.
package struct NodeRecord: Hashable, Sendable {
    package var node: NodeID
    package var name: String
    package var address: String
    package var incarnation: Incarnation

    package init(node: NodeID, name: String, address: String, incarnation: Incarnation) {
        self.node = node
        self.name = name
        self.address = address
        self.incarnation = incarnation
    }
}

/// How a cluster begins.
package struct ClusterRecord: Hashable, Sendable {
    package var cluster: ClusterID
    /// Ascending by id.
    package var nodes: [NodeRecord]
    /// Ascending by id; the system region first.
    package var regions: [RegionDescriptor]
    /// The first id that the allocator may give out.
    package var nextID: UInt64

    /// The record of a new cluster: node ids by ascending name, one voter of each region on each
    /// node, the user ranges as given.
    package static func make(
        cluster: ClusterID, members: [(name: String, address: String, incarnation: Incarnation)],
        ranges: [KeyRange]
    ) -> ClusterRecord {
        invariant(!members.isEmpty && !ranges.isEmpty, "a cluster has nodes and ranges")
        let sorted = members.sorted { $0.name < $1.name }
        let nodes = sorted.enumerated().map { position, member in
            NodeRecord(
                node: NodeID(UInt64(position + 1)), name: member.name, address: member.address,
                incarnation: member.incarnation)
        }
        // Region, peer and node ids come from one sequence, so that no id ever means two things.
        var nextID = UInt64(nodes.count + ranges.count + 2)
        func descriptor(_ region: RegionID, isSystem: Bool, range: KeyRange) -> RegionDescriptor {
            let peers = nodes.map { node -> PeerDescriptor in
                defer { nextID += 1 }
                return PeerDescriptor(peer: PeerID(nextID), node: node.node)
            }
            return RegionDescriptor(
                region: region, isSystem: isSystem, range: range,
                epoch: RegionEpoch(confVersion: 1, version: 1), peers: peers)
        }
        var regions = [descriptor(.system, isSystem: true, range: .all)]
        for (position, range) in ranges.enumerated() {
            regions.append(
                descriptor(RegionID(UInt64(position + 2)), isSystem: false, range: range))
        }
        return ClusterRecord(cluster: cluster, nodes: nodes, regions: regions, nextID: nextID)
    }

    /// The record of a new cluster of one node that begins with regions of an old one, under their ids.
    ///
    /// - Parameter regions: Ascending by id; together every key, each once.
    package static func restored(
        cluster: ClusterID, node: NodeRecord,
        regions: [(region: RegionID, range: KeyRange, epoch: RegionEpoch)]
    ) -> ClusterRecord {
        let last = max(regions.map(\.region.rawValue).max() ?? 0, node.node.rawValue)
        var nextID = max(last, RegionID.system.rawValue) + 1
        func descriptor(
            _ region: RegionID, _ range: KeyRange, _ epoch: RegionEpoch
        ) -> RegionDescriptor {
            defer { nextID += 1 }
            return RegionDescriptor(
                region: region, isSystem: region == .system, range: range, epoch: epoch,
                peers: [PeerDescriptor(peer: PeerID(nextID), node: node.node)])
        }
        let system = descriptor(.system, .all, RegionEpoch(confVersion: 1, version: 1))
        let users = regions.map { descriptor($0.region, $0.range, $0.epoch) }
        return ClusterRecord(
            cluster: cluster, nodes: [node], regions: [system] + users, nextID: nextID)
    }

    package func node(named name: String) -> NodeRecord? { nodes.first { $0.name == name } }
    package func node(_ node: NodeID) -> NodeRecord? { nodes.first { $0.node == node } }
}

extension ClusterRecord {
    private static let formatVersion: UInt8 = 1
    private static let maxNameBytes = 1024

    /// The record's bytes.
    package func encoded() -> Bytes {
        var writer = ByteWriter(chunkCapacity: 4096)
        writer.append(Self.formatVersion)
        writer.append(cluster.high)
        writer.append(cluster.low)
        writer.append(nextID)
        writer.append(UInt32(nodes.count))
        for node in nodes {
            writer.append(node.node.rawValue)
            writer.append(node.incarnation.rawValue)
            writer.appendLengthPrefixed(Bytes(node.name))
            writer.appendLengthPrefixed(Bytes(node.address))
        }
        writer.append(UInt32(regions.count))
        for region in regions { region.encode(into: &writer) }
        return writer.take()
    }

    /// Reads a record and checks that it makes sense as a whole.
    package static func decode(_ bytes: Bytes) throws(DecodeError) -> ClusterRecord {
        var reader = ByteReader(bytes)
        let version = try reader.read(UInt8.self)
        guard version == formatVersion else {
            throw reader.failure("cluster record of unknown version \(version)")
        }
        let cluster = ClusterID(high: try reader.read(), low: try reader.read())
        let nextID = try reader.read(UInt64.self)
        let nodeCount = Int(try reader.read(UInt32.self))
        guard nodeCount >= 1, nodeCount * 24 <= reader.remaining else {
            throw reader.failure("\(nodeCount) nodes do not fit")
        }
        var nodes: [NodeRecord] = []
        for _ in 0..<nodeCount {
            let node = NodeID(try reader.read(UInt64.self))
            let incarnation = Incarnation(try reader.read(UInt64.self))
            let name = try reader.readLengthPrefixed(limit: maxNameBytes)
            let address = try reader.readLengthPrefixed(limit: maxNameBytes)
            guard nodes.last.map({ $0.node < node }) ?? (node.rawValue > 0) else {
                throw reader.failure("nodes are not in order")
            }
            nodes.append(
                NodeRecord(
                    node: node, name: String(decoding: name.array, as: UTF8.self),
                    address: String(decoding: address.array, as: UTF8.self),
                    incarnation: incarnation))
        }
        let regionCount = Int(try reader.read(UInt32.self))
        guard regionCount >= 2, regionCount * 36 <= reader.remaining else {
            throw reader.failure("\(regionCount) regions do not fit")
        }
        var regions: [RegionDescriptor] = []
        for _ in 0..<regionCount {
            let region = try RegionDescriptor.decode(from: &reader)
            guard regions.last.map({ $0.region < region.region }) ?? region.isSystem else {
                throw reader.failure("regions are not in order")
            }
            regions.append(region)
        }
        try reader.expectEnd()
        let record = ClusterRecord(
            cluster: cluster, nodes: nodes, regions: regions, nextID: nextID)
        if let fault = record.fault { throw reader.failure(fault) }
        return record
    }

    /// What makes it impossible to live by; it is what `make` can make otherwise. A record is kept
    /// for good, so that a bad one must not get so far.
    private var fault: String? {
        guard nextID < 1 << 62 else { return "the next id is past every bound" }
        guard Set(nodes.map(\.name)).count == nodes.count else { return "two nodes have one name" }
        guard nodes.allSatisfy({ $0.node.rawValue < nextID }) else { return "a node id is free" }
        let members = Set(nodes.map(\.node))
        var peers: Set<PeerID> = []
        for region in regions {
            let isFirst = region.region == .system
            guard region.isSystem == isFirst, region.region.rawValue < nextID else {
                return "region \(region.region) is none that there can be"
            }
            guard members.isSuperset(of: region.peers.map(\.node)),
                Set(region.peers.map(\.node)).count == region.peers.count,
                region.peers.contains(where: { $0.roles == .voter })
            else { return "region \(region.region) has no possible peers" }
            for peer in region.peers {
                guard peer.peer.rawValue < nextID, peers.insert(peer.peer).inserted else {
                    return "\(peer.peer) is no peer id, or of two peers"
                }
            }
        }
        let ranges = regions.dropFirst().map(\.range).sorted { $0.lower < $1.lower }
        for (left, right) in zip(ranges, ranges.dropFirst()) where left.overlaps(right) {
            return "two regions own the same keys"
        }
        return nil
    }
}

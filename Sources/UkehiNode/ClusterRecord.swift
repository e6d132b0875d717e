// The one record a cluster begins with: who is in it and which regions there are. The node with the
// lowest name makes it, every node persists it before its first vote, and no second one can come
// to be: a directory takes a record only while it has none (DESIGN 7, RULES 16).
//
// A node that joins later is given one, too, of the cluster as its member knows it then: the nodes, and
// where regions are. Of those it holds none.
//
//   record | version u8 = 2 | cluster 2 × u64 | next id u64 | registry | count u32 | descriptors |
//
// Version 1 had, in the registry's place, a count u32 and the nodes without their standings.

package import UkehiBase
import UkehiState

/// How a cluster begins.
package struct ClusterRecord: Hashable, Sendable {
    package var cluster: ClusterID
    /// The nodes, as last known.
    package var registry: NodeRegistry
    /// Ascending by id.
    package var nodes: [NodeRecord] {
        get { registry.nodes }
        set { registry.nodes = newValue }
    }
    /// Ascending by id; the system region first.
    package var regions: [RegionDescriptor]
    /// The first id that the allocator may give out.
    package var nextID: UInt64

    package init(
        cluster: ClusterID, registry: NodeRegistry, regions: [RegionDescriptor], nextID: UInt64
    ) {
        self.cluster = cluster
        self.registry = registry
        self.regions = regions
        self.nextID = nextID
    }

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
        return ClusterRecord(
            cluster: cluster, registry: NodeRegistry(nodes: nodes), regions: regions,
            nextID: nextID)
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
            cluster: cluster, registry: NodeRegistry(nodes: [node]), regions: [system] + users,
            nextID: nextID)
    }

    /// What a node is given that joins a running cluster: its regions as far as they are known, without a
    /// peer of its own, which its leaders introduce to it.
    ///
    /// - Parameters:
    ///   - own: Regions whose ranges are right.
    ///   - others: Regions as last known; those in the way of others are left out.
    package static func joining(
        _ node: NodeID, cluster: ClusterID, registry: NodeRegistry, own: [RegionDescriptor],
        others: [RegionDescriptor]
    ) -> ClusterRecord {
        var regions: [RegionDescriptor] = []
        var taken: Set<RegionID> = []
        let nodes = Set(registry.nodes.map(\.node))
        var table = RegionTable()
        table.insert(own.filter { !$0.isSystem })
        var last: KeyRange?
        let free = others.sorted { $0.range.lower < $1.range.lower }.filter { region in
            guard !region.isSystem else { return true }
            guard table.overlapping(region.range).isEmpty,
                !(last.map { $0.overlaps(region.range) } ?? false)
            else { return false }
            last = region.range
            return true
        }
        for var region in own + free {
            region.peers.removeAll { $0.node == node || !nodes.contains($0.node) }
            guard region.peers.contains(where: { $0.roles == .voter }),
                taken.insert(region.region).inserted
            else { continue }
            // Half of a joint configuration may be missing now: it says where to ask, not who votes.
            region.leavesJoint = false
            for position in region.peers.indices { region.peers[position].roles = .voter }
            regions.append(region)
        }
        regions.sort { $0.region < $1.region }
        let ids =
            regions.flatMap { [$0.region.rawValue] + $0.peers.map(\.peer.rawValue) }
            + registry.nodes.map(\.node.rawValue)
        return ClusterRecord(
            cluster: cluster, registry: registry, regions: regions, nextID: (ids.max() ?? 0) + 1)
    }

    /// The registry is another one now.
    package mutating func follow(_ registry: NodeRegistry) {
        self.registry = registry
        // Its ids were given out since.
        nextID = max(nextID, (registry.nodes.last?.node.rawValue ?? 0) + 1)
    }

    package func node(named name: String) -> NodeRecord? { registry.present(name) }
    package func node(_ node: NodeID) -> NodeRecord? { registry.node(node) }
}

extension ClusterRecord {
    private static let formatVersion: UInt8 = 2

    /// The record's bytes.
    package func encoded() -> Bytes {
        var writer = ByteWriter(chunkCapacity: 4096)
        writer.append(Self.formatVersion)
        writer.append(cluster.high)
        writer.append(cluster.low)
        writer.append(nextID)
        registry.encode(into: &writer)
        writer.append(UInt32(regions.count))
        for region in regions { region.encode(into: &writer) }
        return writer.take()
    }

    /// Reads a record and checks that it makes sense as a whole.
    package static func decode(_ bytes: Bytes) throws(DecodeError) -> ClusterRecord {
        var reader = ByteReader(bytes)
        let version = try reader.read(UInt8.self)
        guard version == 1 || version == formatVersion else {
            throw reader.failure("cluster record of unknown version \(version)")
        }
        let cluster = ClusterID(high: try reader.read(), low: try reader.read())
        let nextID = try reader.read(UInt64.self)
        let registry =
            version == 1
            ? NodeRegistry(
                nodes: try NodeRegistry.decodeNodes(from: &reader, hasStanding: false))
            : try NodeRegistry.decode(from: &reader)
        let regionCount = Int(try reader.read(UInt32.self))
        guard regionCount >= 1, regionCount * 36 <= reader.remaining else {
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
            cluster: cluster, registry: registry, regions: regions, nextID: nextID)
        if let fault = record.fault { throw reader.failure(fault) }
        return record
    }

    /// What makes it impossible to live by; it is what `make` can make otherwise. A record is kept
    /// for good, so that a bad one must not get so far.
    private var fault: String? {
        guard nextID < 1 << 62 else { return "the next id is past every bound" }
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

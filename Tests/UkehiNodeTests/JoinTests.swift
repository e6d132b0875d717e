import Synchronization
import Testing
import UkehiBase
import UkehiEnvironment
import UkehiSimulation
import UkehiState

@testable import UkehiNode

/// Nodes come to a running cluster with an empty directory and their seeds, and whoever lost its disk
/// comes as a new node (RULES 16).
@Suite("Nodes that join")
struct JoinTests {
    /// Three nodes of a cluster, and others that know the first one and that nobody knows.
    private func cluster(of nodes: Int, regions: Int = 2) throws -> TestCluster {
        let cluster = TestCluster(nodes: nodes, regions: regions) { options in
            let first = ["node-1", "node-2", "node-3"]
            options.peers =
                first.contains(options.name)
                ? first.filter { $0 != options.name } : ["node-1"]
        }
        for number in 0..<3 { try cluster.start(number) }
        cluster.pass(milliseconds: 3000)
        return cluster
    }

    private func registry(_ cluster: TestCluster, _ number: Int) -> NodeRegistry? {
        cluster.members[number].core?.state.withLock { $0.identity.record?.registry }
    }

    private func set(_ nodes: [NodeID], _ region: RegionID, _ cluster: TestCluster) -> Bool {
        for _ in 0..<40 {
            for number in cluster.members.indices {
                let tag = cluster.submit(
                    number, .members(region, .set(nodes)), key: Bytes())
                cluster.settle()
                if case .members(let report)? = cluster.sink.replies[tag],
                    report.progress == .done
                {
                    return true
                }
            }
            cluster.pass(milliseconds: 500)
        }
        return false
    }

    @Test("a fourth node joins by its seed, is known to all, and holds what it is given")
    func joins() throws {
        let cluster = try cluster(of: 4)
        guard case .command(.applied)? = try cluster.write(.put(key: "k", value: "v")) else {
            Issue.record("the cluster does not write")
            return
        }
        try cluster.start(3)
        cluster.pass(milliseconds: 12_000)
        #expect(cluster.failures.isEmpty)
        let node = try #require(cluster.members[3].core?.nodeID)
        #expect(node.rawValue > 3)
        let known = registry(cluster, 0)
        #expect(known?.present.map(\.name) == ["node-1", "node-2", "node-3", "node-4"])
        for number in 1..<4 { #expect(registry(cluster, number) == known) }
        // It holds nothing, and knows who does.
        let tag = cluster.submit(3, .get(.linearizable), key: "k")
        cluster.settle()
        guard case .failed(.rejected(.notLeader))? = cluster.sink.replies[tag] else {
            Issue.record("it answers \(String(describing: cluster.sink.replies[tag]))")
            return
        }
        for region in [RegionID.system, RegionID(2), RegionID(3)] {
            #expect(set([NodeID(1), NodeID(2), node], region, cluster), "\(cluster.dump())")
        }
        cluster.pass(milliseconds: 3000)
        guard case .value(let value?)? = cluster.read("k", at: 3, .stale) else {
            Issue.record("the new node has no copy")
            return
        }
        #expect(value.value == "v")
        // All of it survives.
        for number in 0..<4 {
            cluster.crash(number, seed: 5)
            try cluster.start(number)
            cluster.pass(milliseconds: 3000)
        }
        #expect(registry(cluster, 0) == known)
        #expect(cluster.members[3].core?.nodeID == node)
        #expect(cluster.failures.isEmpty)
    }

    @Test("a cluster of one, begun without peers, grows")
    func grows() throws {
        let cluster = TestCluster(nodes: 2, regions: 1) { options in
            if options.name == "node-1" { options.peers = [] }
        }
        try cluster.start(0)
        cluster.pass(milliseconds: 2000)
        try cluster.start(1)
        cluster.pass(milliseconds: 8000)
        let node = try #require(cluster.members[1].core?.nodeID)
        #expect(set([NodeID(1), node], RegionID(2), cluster), "\(cluster.dump())")
        #expect(cluster.failures.isEmpty)
    }

    @Test("a wiped node joins as a new one under its old name; what it was is refused for good")
    func wiped() throws {
        let cluster = try cluster(of: 3)
        cluster.crash(2, seed: 1)
        let old = cluster.members[2].fileSystem
        cluster.members[2].fileSystem = SimulatedFileSystem()
        try cluster.start(2)
        cluster.pass(milliseconds: 12_000)
        #expect(cluster.failures.isEmpty)
        let node = try #require(cluster.members[2].core?.nodeID)
        #expect(node.rawValue > 3)
        #expect(registry(cluster, 0)?.node(NodeID(3))?.standing == .replaced)
        // Its regions still count on the one that is gone; the topology says so.
        let gone = cluster.members[0].core?.topology?.nodes.first { $0.node == NodeID(3) }
        #expect(gone?.isGone == true)
        for region in [RegionID.system, RegionID(2), RegionID(3)] {
            #expect(set([NodeID(1), NodeID(2), node], region, cluster), "\(cluster.dump())")
        }
        // The lost disk is found again.
        cluster.crash(2, seed: 2)
        cluster.members[2].fileSystem = old
        try cluster.start(2)
        cluster.pass(milliseconds: 3000)
        #expect(cluster.failures.codes == [.identity])
        guard case .command(.applied)? = try cluster.write(.put(key: "k", value: "v")) else {
            Issue.record("the others do not write")
            return
        }
    }

    @Test("a node that comes back under another address is dialed there, by all")
    func moved() throws {
        let cluster = try cluster(of: 3)
        cluster.crash(2, seed: 1)
        try cluster.start(2, at: "elsewhere")
        cluster.pass(milliseconds: 12_000)
        #expect(cluster.members[2].core?.nodeID == NodeID(3))
        for number in 0..<3 {
            #expect(registry(cluster, number)?.node(NodeID(3))?.address == "elsewhere")
        }
        // None that names it as a peer forgets that address; one that learnt it would.
        for number in 0..<2 {
            #expect(cluster.members[number].transport.dialed.contains("elsewhere"))
        }
        #expect(!cluster.members[2].transport.dialed.contains("elsewhere"))
        let seen = cluster.members[0].core?.topology?.nodes.first { $0.node == NodeID(3) }
        #expect(seen?.address == "elsewhere")
        // And back again, where it is dialed still.
        cluster.crash(2, seed: 2)
        try cluster.start(2)
        cluster.pass(milliseconds: 12_000)
        for number in 0..<2 {
            #expect(registry(cluster, number)?.node(NodeID(3))?.address == "node-3")
            #expect(!cluster.members[number].transport.dialed.contains("elsewhere"))
            #expect(cluster.members[number].transport.dialed.contains("node-3"))
        }
        #expect(cluster.failures.isEmpty)
    }

    @Test("a name that another directory holds elsewhere is not given away")
    func takenName() throws {
        let cluster = try cluster(of: 4)
        try cluster.start(3, name: "node-2")
        cluster.pass(milliseconds: 5000)
        #expect(cluster.failures.codes == [.identity])
        #expect(registry(cluster, 0)?.nodes.count == 3)
    }

    @Test("registries, and what is said of nodes, are read back, and garbage is refused")
    func codecs() throws {
        var random = SeededRandom(seed: 7)
        let hello = Hello(
            name: "d", address: "d:1", incarnation: Incarnation(9), cluster: nil, node: nil)
        let registry = NodeRegistry(
            generation: 1, version: 2,
            nodes: [
                NodeRecord(
                    node: NodeID(1), name: "a", address: "a:1", incarnation: Incarnation(1)),
                NodeRecord(
                    node: NodeID(4), name: "a", address: "a:1", incarnation: Incarnation(2),
                    standing: .dead),
            ]
        ).admitting(hello, as: NodeID(7))
        let record = ClusterRecord.make(
            cluster: ClusterID(high: 1, low: 1), members: [("a", "a:1", Incarnation(1))],
            ranges: StaticRanges.ranges(count: 1))
        let news = RegistryNews(registry: registry, system: record.regions[0])
        #expect(try NodeRegistry.decode(registry.encoded()) == registry)
        #expect(try RegistryNews.decode(news.encoded()) == news)
        #expect(try Hello.decode(hello.encoded()) == hello)
        for bytes in [registry.encoded(), news.encoded(), hello.encoded()] {
            for _ in 0..<2000 {
                var changed = bytes.array
                switch random.next() % 3 {
                case 0: changed.removeLast(Int(random.next() % UInt64(changed.count)) + 1)
                case 1: changed += [UInt8(truncatingIfNeeded: random.next())]
                default:
                    changed[Int(random.next() % UInt64(changed.count))] =
                        UInt8(truncatingIfNeeded: random.next())
                }
                _ = try? NodeRegistry.decode(Bytes(changed))
                _ = try? RegistryNews.decode(Bytes(changed))
                _ = try? Hello.decode(Bytes(changed))
            }
        }
        // Two present nodes of one name, or one directory twice.
        var twice = registry
        twice.nodes[1].standing = .present
        #expect(throws: DecodeError.self) { try NodeRegistry.decode(twice.encoded()) }
        twice = registry
        twice.nodes[1].incarnation = Incarnation(1)
        #expect(throws: DecodeError.self) { try NodeRegistry.decode(twice.encoded()) }
    }
}

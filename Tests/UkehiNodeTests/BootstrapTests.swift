import Testing
import UkehiBase
import UkehiState

@testable import UkehiNode

private func hello(_ name: String, incarnation: UInt64, cluster: ClusterID? = nil) -> Hello {
    Hello(
        name: name, address: "\(name):7878", incarnation: Incarnation(incarnation),
        cluster: cluster, node: nil)
}

private let cluster = ClusterID(high: 1, low: 2)

private func bootstrap(
    _ name: String, incarnation: UInt64, peers: [String], record: ClusterRecord? = nil
) -> Bootstrap {
    Bootstrap(
        local: hello(name, incarnation: incarnation), peers: peers.map { "\($0):7878" },
        ranges: StaticRanges.ranges(count: 4), newCluster: cluster, record: record)
}

/// DESIGN 7: an empty directory never invents a cluster by itself.
@Suite("Bootstrap")
struct BootstrapTests {
    @Test("a node without peers is its own cluster at once")
    func alone() throws {
        var core = bootstrap("a", incarnation: 1, peers: [])
        let actions = core.start()
        guard case .join(let record)? = actions.first, actions.count == 1 else {
            Issue.record("no join: \(actions)")
            return
        }
        #expect(record.cluster == cluster)
        #expect(record.regions.count == 5)
        #expect(record.regions.allSatisfy { $0.peers.count == 1 })
    }

    @Test("only the lowest name makes the record, and only when every peer has answered")
    func lowestMakes() throws {
        var a = bootstrap("a", incarnation: 1, peers: ["b", "c"])
        var b = bootstrap("b", incarnation: 2, peers: ["a", "c"])
        #expect(a.start().isEmpty)
        #expect(a.connected(hello("b", incarnation: 2), dialed: "b:7878").isEmpty)
        #expect(b.connected(hello("a", incarnation: 1), dialed: "a:7878").isEmpty)
        #expect(b.connected(hello("c", incarnation: 3), dialed: "c:7878").isEmpty)

        let actions = a.connected(hello("c", incarnation: 3), dialed: "c:7878")
        guard case .join(let record)? = actions.first else {
            Issue.record("no join: \(actions)")
            return
        }
        #expect(record.nodes.map(\.name) == ["a", "b", "c"])
        #expect(
            Array(actions.dropFirst()) == [
                .offer(record.encoded(), to: "b:7878"), .offer(record.encoded(), to: "c:7878"),
            ])
        #expect(try b.offered(record.encoded()) == [.join(record)])
        // A second offer changes nothing.
        #expect(try b.offered(record.encoded()).isEmpty)
    }

    @Test("while one peer belongs to a cluster, nobody makes another")
    func memberPreventsNewCluster() {
        var a = bootstrap("a", incarnation: 1, peers: ["b", "c"])
        let member = ClusterID(high: 9, low: 9)
        #expect(a.connected(hello("b", incarnation: 2, cluster: member), dialed: "b:7878").isEmpty)
        #expect(a.connected(hello("c", incarnation: 3), dialed: "c:7878").isEmpty)
    }

    @Test("an offer that lists another directory under this name is refused (RULES 16)")
    func foreignOffer() {
        var a = bootstrap("a", incarnation: 1, peers: ["b"])
        let actions = a.connected(hello("b", incarnation: 2), dialed: "b:7878")
        guard case .join(let record)? = actions.first else {
            Issue.record("no join")
            return
        }
        var wiped = bootstrap("b", incarnation: 77, peers: ["a"])
        #expect(throws: DecodeError.self) { _ = try wiped.offered(record.encoded()) }
    }

    private func member() throws -> (record: ClusterRecord, bootstrap: Bootstrap)? {
        var a = bootstrap("a", incarnation: 1, peers: ["b"])
        guard
            case .join(let record)? = a.connected(hello("b", incarnation: 2), dialed: "b:7878")
                .first
        else { return nil }
        return (record, bootstrap("a", incarnation: 1, peers: ["b"], record: record))
    }

    @Test(
        "empty directories may ask to be nodes; another cluster, a namesake and a taken name are refused"
    )
    func judgement() throws {
        let (record, member) = try #require(try member())
        func isRefused(_ hello: Hello) -> Bool {
            if case .refuse = member.judge(hello) { true } else { false }
        }
        #expect(!isRefused(hello("b", incarnation: 2)))
        #expect(!member.isNews(hello("b", incarnation: 2)))
        // A stranger, and a wiped node at its old address: new nodes.
        #expect(!isRefused(hello("x", incarnation: 4)))
        #expect(member.isNews(hello("x", incarnation: 4)))
        #expect(!isRefused(hello("b", incarnation: 3)))
        #expect(member.isNews(hello("b", incarnation: 3)))
        // The holder of the name may be alive elsewhere.
        var thief = hello("b", incarnation: 3)
        thief.address = "c:7878"
        #expect(isRefused(thief))
        #expect(!member.isNews(thief))
        // Who says which cluster has to say which node.
        #expect(isRefused(hello("b", incarnation: 3, cluster: record.cluster)))
        #expect(isRefused(hello("b", incarnation: 2, cluster: ClusterID(high: 5, low: 5))))
        #expect(isRefused(hello("a", incarnation: 1)))
    }

    @Test("a directory that lost its name or was declared dead is dismissed (RULES 16, 74)")
    func dismissal() throws {
        var (record, member) = try #require(try member())
        func verdict(_ incarnation: UInt64, node: UInt64, generation: UInt64 = 0) -> String {
            var remote = hello("b", incarnation: incarnation, cluster: record.cluster)
            remote.node = NodeID(node)
            remote.generation = generation
            return switch member.judge(remote) {
            case .accept: "accept"
            case .refuse: "refuse"
            case .dismiss: "dismiss"
            }
        }
        #expect(verdict(2, node: 2) == "accept")
        #expect(verdict(3, node: 2) == "refuse", "another directory with its id")
        #expect(verdict(9, node: 40) == "accept", "it joined a moment ago")
        member.follow(
            record.registry.admitting(hello("b", incarnation: 3), as: NodeID(40)))
        #expect(verdict(3, node: 40) == "accept")
        #expect(verdict(2, node: 2) == "dismiss")
        member.follow(record.registry.declaringDead([NodeID(2)]))
        #expect(verdict(2, node: 2) == "dismiss")
        #expect(verdict(9, node: 40) == "dismiss", "it joined in what was lost")
        #expect(verdict(9, node: 40, generation: 1) == "accept")
    }

    @Test("a node id that is not the one in the record is refused (RULES 71)")
    func foreignNodeID() throws {
        var a = bootstrap("a", incarnation: 1, peers: ["b"])
        guard
            case .join(let record)? = a.connected(hello("b", incarnation: 2), dialed: "b:7878")
                .first
        else {
            Issue.record("no join")
            return
        }
        let member = bootstrap("a", incarnation: 1, peers: ["b"], record: record)
        var b = hello("b", incarnation: 2, cluster: record.cluster)
        b.node = record.node(named: "b")?.node
        guard case .accept = member.judge(b) else {
            Issue.record("a member is refused")
            return
        }
        b.node = record.node(named: "a")?.node
        guard case .refuse = member.judge(b) else {
            Issue.record("b may speak for a")
            return
        }
    }

    @Test("a record that no cluster could live by is refused before anybody persists it")
    func impossibleRecords() throws {
        let good = ClusterRecord.make(
            cluster: cluster,
            members: [("a", "a:1", Incarnation(1)), ("b", "b:1", Incarnation(2))],
            ranges: StaticRanges.ranges(count: 3))
        func isRefused(_ spoil: (inout ClusterRecord) -> Void) -> Bool {
            var record = good
            spoil(&record)
            return (try? ClusterRecord.decode(record.encoded())) == nil
        }
        #expect(!isRefused { _ in })
        #expect(isRefused { $0.regions[2].range = $0.regions[1].range }, "two own the same keys")
        #expect(isRefused { $0.regions[1].range = .all }, "two own the same keys")
        #expect(isRefused { $0.regions[1].isSystem = true }, "two system regions")
        #expect(isRefused { $0.regions[0].region = RegionID(0) }, "no system region")
        #expect(isRefused { $0.regions[1].peers[0].node = NodeID(9) }, "a peer on no node")
        #expect(isRefused { $0.regions[1].peers[0].node = NodeID(2) }, "two peers on one node")
        #expect(isRefused { $0.regions[1].peers[0].peer = PeerID(1 << 63) }, "no possible id")
        #expect(isRefused { $0.regions[1].peers[0].peer = $0.regions[0].peers[0].peer }, "twice")
        #expect(isRefused { $0.nextID = 3 }, "ids that will be given out again")
        #expect(isRefused { $0.nodes[1].name = "a" }, "one name for two nodes")
        #expect(isRefused { for place in 0..<2 { $0.regions[1].peers[place].roles = .learner } })
    }

    @Test("a member offers its record again to a listed peer that lacks it")
    func offersAgain() {
        var a = bootstrap("a", incarnation: 1, peers: ["b"])
        guard
            case .join(let record)? = a.connected(hello("b", incarnation: 2), dialed: "b:7878")
                .first
        else {
            Issue.record("no join")
            return
        }
        var again = bootstrap("a", incarnation: 1, peers: ["b"], record: record)
        #expect(
            again.connected(hello("b", incarnation: 2), dialed: "b:7878") == [
                .offer(record.encoded(), to: "b:7878")
            ])
        #expect(
            again.connected(hello("b", incarnation: 2, cluster: record.cluster), dialed: "b:7878")
                .isEmpty)
    }

    @Test(
        "a record survives its encoding; every truncation and flip is refused or decodes to a record"
    )
    func recordCodec() throws {
        let record = ClusterRecord.make(
            cluster: cluster,
            members: [("b", "b:1", Incarnation(2)), ("a", "a:1", Incarnation(1))],
            ranges: StaticRanges.ranges(count: 3))
        let bytes = record.encoded()
        #expect(try ClusterRecord.decode(bytes) == record)
        for length in 0..<bytes.count {
            #expect(throws: DecodeError.self) { _ = try ClusterRecord.decode(bytes[0..<length]) }
        }
        var survived = 0
        for position in 0..<bytes.count {
            var flipped = bytes.array
            flipped[position] ^= 0xFF
            if (try? ClusterRecord.decode(Bytes(flipped))) != nil { survived += 1 }
        }
        // Ids and addresses may be anything; structure may not.
        #expect(survived < bytes.count)
        // No id means two things.
        let ids = record.regions.flatMap { $0.peers.map(\.peer.rawValue) + [$0.region.rawValue] }
        #expect(Set(ids).count == ids.count)
        #expect(ids.allSatisfy { $0 < record.nextID })
    }
}

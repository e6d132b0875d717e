// A division that is cut after each of its steps, on nodes whose state stores lose all that was not flushed.

import Testing
import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiState

@testable import UkehiNode

@Suite("splits that are cut")
struct SplitCrashTests {
    static let keys: [Bytes] = ["a", "g", "n", "t", "z"]

    private func started(_ seed: UInt64) throws -> TestCluster {
        let cluster = TestCluster(nodes: 3, regions: 1, storeSeed: seed, flushesUnasked: false)
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        for key in Self.keys { _ = try cluster.write(.put(key: key, value: key)) }
        return cluster
    }

    /// Everybody loses power and comes back; then all keys are there.
    private func crashAll(_ cluster: TestCluster, _ seed: UInt64) throws {
        cluster.network.packets.removeAll()
        for number in cluster.members.indices { cluster.crash(number, seed: seed) }
        try cluster.startAll()
        cluster.pass(milliseconds: 4000)
        for key in Self.keys {
            guard let leader = cluster.leader(of: key),
                case .value(let found?)? = cluster.read(key, at: leader)
            else {
                Issue.record("cut after step \(seed): \(key) cannot be read")
                continue
            }
            #expect(found.value == key)
        }
        #expect(cluster.failures.isEmpty)
    }

    /// Method: a run without a cut says how many steps there are; then one is made for each of them.
    @Test("a division cut after any step has happened or not, and nothing is lost")
    func everyStep() throws {
        var steps = Int.max
        var cut = 0
        var divided = 0
        while cut <= steps {
            let cluster = try started(UInt64(cut))
            let leader = try #require(cluster.leader(of: "a"))
            cluster.submit(leader, .split(["h", "p"]), key: "h")
            let done = cluster.settle(atMost: cut == 0 ? .max : cut)
            if cut == 0 {
                steps = done
                #expect(cluster.members[leader].core?.topology?.regions.count == 3)
            }
            try crashAll(cluster, UInt64(cut))
            let topologies = cluster.members.map { $0.core?.topology?.regions.map(\.range) ?? [] }
            #expect(Set(topologies).count == 1 && (1...3).contains(topologies[0].count))
            if cluster.members[0].core?.topology?.regions.count == 3 { divided += 1 }
            cut += 1
        }
        // Committed half-way or so: from there on it has happened.
        #expect(steps > 30 && divided > 10 && divided < steps)
    }

    @Test("so has one whose parent's peer is removed meanwhile")
    func removedMeanwhile() throws {
        var steps = Int.max
        var cut = 0
        while cut <= steps {
            let cluster = try started(UInt64(cut))
            let leader = try #require(cluster.leads())
            let number = (leader + 1) % 3
            let gone = try cluster.peer(on: number)
            try cluster.change([.demote(gone)])
            cluster.pass(milliseconds: 200)
            let split = cluster.submit(leader, .split(["h"]), key: "h")
            var done = 0
            // The change goes into the log as soon as the division is applied where it is led.
            while cluster.region(leader)?.descriptor.epoch.version == 1, done < cut || cut == 0 {
                let more = cluster.settle(atMost: 1)
                if more == 0 { break }
                done += more
            }
            if cluster.region(leader)?.descriptor.epoch.version == 2 {
                _ = try? cluster.members[leader].core?.lanes[0].propose(
                    MemberChange([.removeLearner(gone)]), in: TestCluster.id)
            }
            done += cluster.settle(atMost: cut == 0 ? .max : cut - done)
            if cut == 0 {
                steps = done
                #expect(cluster.sink.replies[split] != nil)
            }
            try crashAll(cluster, UInt64(cut))
            // Each third one: a run has some hundred steps.
            cut += cut == 0 ? 1 : 3
        }
        #expect(steps > 30)
    }
}

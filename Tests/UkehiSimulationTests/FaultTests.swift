import Testing
import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiState
import UkehiWAL

@testable import UkehiNode
@testable import UkehiSimulation

/// Each kind of fault does what its name says, and is over when its time is.
@Suite("Faults")
struct FaultTests {
    /// A calm cluster of five and an injector that does what it is told.
    private final class Bed {
        let cluster: SimulatedCluster
        let injector: FaultInjector
        var lost: [Int: NodeError] = [:]
        private var number = 0

        init(nodes: Int = 5, rotsAll: Bool = false) throws {
            var options = SwarmOptions(seed: 7, scenario: .calm)
            options.nodes = nodes
            options.regions = 2
            options.clockDriftPerMillion = Array(repeating: 0, count: nodes)
            options.electionTimeoutMilliseconds = 300
            options.heartbeatIntervalMilliseconds = 30
            options.networkLatency = 100_000...300_000
            options.diskLatency = 50_000...100_000
            options.laneLatency = 1_000...20_000
            options.workerLatency = 1_000...50_000
            options.splitsBatches = false
            options.segmentBytes = 64 << 10
            options.allocates = true
            options.zeroesAhead = true
            // Values here have few different bytes, and are to fill sectors.
            options.compressionThresholdBytes = nil
            options.rarePercent = 0
            options.raft = RaftSizes()
            options.appliesInline = false
            cluster = SimulatedCluster(seed: 7, options: options, state: .keyValue)
            injector = FaultInjector(
                world: cluster.world, nodes: cluster.nodes, network: cluster.network,
                observer: cluster.observer, seed: 7, electionTimeoutMilliseconds: 300,
                rotsAll: rotsAll, report: { _ in })
            for node in cluster.nodes {
                node.onLost = { [unowned self] in lost[node.number] = $0 }
            }
            try cluster.run(milliseconds: 4000)
            try write(10)
        }

        /// Begins a fault and lets two milliseconds pass.
        func begin(
            _ kind: FaultKind, node: Int = 1, milliseconds: UInt64 = 500, seed: UInt64 = 0
        ) throws {
            number += 1
            injector.run(
                FaultSchedule(faults: [
                    Fault(
                        number: number, kind: kind, at: cluster.world.now + 1_000_000,
                        duration: milliseconds * 1_000_000, node: node, seed: seed)
                ]))
            try cluster.run(milliseconds: 2)
            #expect(injector.injected[kind] ?? 0 > 0)
        }
        func write(_ count: Int, each step: UInt64 = 1) throws {
            for value in 1...UInt64(count) {
                _ = try cluster.write(.put(key: "k", value: SimulatedValue.bytes(value * step)))
            }
        }
        /// What the files of a node's log hold.
        func log(of node: Int) -> [String: [UInt8]] {
            let disk = cluster.nodes[node].disk
            let names = ((try? disk.list("data/wal")) ?? []).filter { $0.hasSuffix(".wal") }
            return Dictionary(
                uniqueKeysWithValues: names.map { ($0, disk.contents("data/wal/" + $0) ?? []) })
        }
        func cuts() -> [[Bool]] {
            cluster.nodes.indices.map { from in
                cluster.nodes.indices.map { cluster.network.isBlocked(from: from, to: $0) }
            }
        }
        var isWhole: Bool { cuts().allSatisfy { !$0.contains(true) } }
        subscript(node: Int) -> SimulatedNode { cluster.nodes[node] }
    }

    @Test("crashes: the process is gone, then back; a power cut takes what was not durable")
    func crashes() throws {
        for kind in [FaultKind.kill, .powerCut] {
            let bed = try Bed()
            let life = bed[1].process.life
            try bed.begin(kind)
            #expect(!bed[1].isRunning)
            #expect(bed[0].isRunning)
            try bed.cluster.run(milliseconds: 600)
            #expect(bed[1].isRunning)
            #expect(bed[1].process.life == life + 1)
            try bed.write(3)
        }
        let bed = try Bed()
        try bed.begin(.blackout)
        #expect(bed.cluster.nodes.allSatisfy { !$0.isRunning })
        try bed.cluster.run(milliseconds: 600)
        #expect(bed.cluster.nodes.allSatisfy { $0.isRunning })
        try bed.write(3)
    }

    @Test("a crash at work comes with the next operation of its kind, or the next election")
    func crashAtWork() throws {
        let bed = try Bed()
        let life = bed[1].process.life
        // The seventh kind of operation: a durable write.
        try bed.begin(.crashAtWork, milliseconds: 2000, seed: 6 << 8 | 1)
        try bed.write(5)
        try bed.cluster.run(milliseconds: 500)
        #expect(bed[1].process.life > life)
        try bed.cluster.run(milliseconds: 3000)
        #expect(bed[1].isRunning)
    }

    @Test("killed at a write, back at once, and without power soon after: two lives end")
    func killThenCut() throws {
        let bed = try Bed()
        let life = bed[1].process.life
        try bed.begin(.killThenCut, milliseconds: 300, seed: 12_345 | 20 << 40)
        try bed.write(5)
        try bed.cluster.run(milliseconds: 1500)
        #expect(bed[1].process.life == life + 2)
        #expect(bed[1].isRunning)
        try bed.write(3)
    }

    @Test("a paused process does nothing, then goes on; a slow one takes its time")
    func pauses() throws {
        let bed = try Bed()
        try bed.begin(.pause)
        let passes = bed[1].lane?.passes
        try bed.cluster.run(milliseconds: 400)
        #expect(bed[1].process.isPaused)
        #expect(bed[1].lane?.passes == passes)
        try bed.cluster.run(milliseconds: 200)
        #expect(!bed[1].process.isPaused)
        #expect(bed[1].lane?.passes != passes)

        try bed.begin(.slowProcess)
        #expect(bed[1].slowness > 1)
        try bed.cluster.run(milliseconds: 600)
        #expect(bed[1].slowness == 1)
    }

    @Test("a slow disk is slow; a stalled one finishes nothing until it is over")
    func slowDisks() throws {
        let bed = try Bed(nodes: 3)
        try bed.begin(.slowDisk)
        #expect(bed[1].behaviour.slowness > 1)
        try bed.cluster.run(milliseconds: 600)
        #expect(bed[1].behaviour.slowness == 1)
        try bed.begin(.stalledDisk, milliseconds: 1000)
        let log = try #require(bed[1].core).log
        // What was under way when it began may still end.
        try bed.cluster.run(milliseconds: 20)
        let frames = log.statistics.frames
        try bed.write(5)
        try bed.cluster.run(milliseconds: 300)
        #expect(log.statistics.frames == frames)
        try bed.cluster.run(milliseconds: 1500)
        #expect(log.statistics.frames > frames)
    }

    @Test("a stalled store applies nothing of what is committed until it is over")
    func stalledStore() throws {
        let bed = try Bed(nodes: 3)
        func region(_ node: Int) throws -> Region {
            let lane = try #require(bed[node].lane)
            return try #require(lane.orderedRegions.max { $0.applied < $1.applied })
        }
        try bed.begin(.stalledStore, milliseconds: 500, seed: 1)
        let before = try region(1).applied
        try bed.write(5)
        try bed.cluster.run(milliseconds: 300)
        #expect(try region(1).applied == before)
        #expect(try region(1).raft.hardState.commit > before)
        #expect(try region(0).applied > before)
        try bed.cluster.run(milliseconds: 1500)
        #expect(try region(1).applied == region(0).applied)

        // Every other one ends the process first, and stalls what comes back.
        let life = bed[1].process.life
        try bed.begin(.stalledStore, milliseconds: 500, seed: 2)
        #expect(!bed[1].isRunning)
        try bed.cluster.run(milliseconds: 1200)
        #expect(bed[1].process.life == life + 1)
        #expect(bed[1].storeStalledUntil > bed.cluster.world.now)
    }

    @Test("a failed write, sync or read ends the process, which comes back")
    func failures() throws {
        for kind in [FaultKind.failedWrite, .failedSync, .fullAtWrite, .failedRead] {
            let bed = try Bed()
            let life = bed[1].process.life
            try bed.begin(kind, milliseconds: 3000, seed: 2)
            try bed.write(20)
            try bed.cluster.run(milliseconds: 1500)
            #expect(bed[1].process.life > life, "\(kind)")
            try bed.cluster.run(milliseconds: 3000)
            #expect(bed[1].isRunning, "\(kind)")
            try bed.write(3)
        }
    }

    @Test("on a full disk nothing new can be reserved")
    func fullDisk() throws {
        let bed = try Bed()
        try bed.begin(.diskFull)
        let file = try bed[1].disk.open("data/extra", .createNew)
        do throws(FileError) {
            try file.allocate(byteCount: 4096)
            Issue.record("a full disk gave room")
        } catch {
            #expect(error.kind == .noSpace)
        }
        try bed.cluster.run(milliseconds: 600)
        try file.allocate(byteCount: 4096)
    }

    @Test(
        "rot changes one sector of a disk of the minority, and the node refuses, repairs it or is not harmed"
    )
    func rot() throws {
        for kind in [FaultKind.corruption, .misdirection] {
            var changedDisks = 0
            var found = 0
            for seed in 1...10 as ClosedRange<UInt64> {
                let bed = try Bed(nodes: 3)
                let number = try #require(bed.injector.corruptible.first)
                #expect(bed.injector.corruptible.count == 1)
                // Long values: most of a frame is data, little of it padding.
                try bed.write(12, each: 61)
                let before = bed.log(of: number)
                try bed.begin(kind, node: number, milliseconds: 20, seed: seed)
                if bed.log(of: number) != before { changedDisks += 1 }
                try bed.cluster.run(milliseconds: 50)
                try bed.begin(.kill, node: number, milliseconds: 10)
                try bed.cluster.run(milliseconds: 500)
                #expect(bed[number].isRunning || bed.lost[number]?.code == .corrupted)
                if bed[number].isLost || bed[number].mendedBodies > 0 { found += 1 }
                // A disk of the majority keeps what it holds.
                let other = (number + 1) % 3
                let kept = bed.log(of: other)
                try bed.begin(kind, node: other, milliseconds: 20, seed: seed)
                #expect(bed[other].isRunning)
                #expect(kept.keys.sorted() == bed.log(of: other).keys.sorted())
                try bed.write(1)
            }
            #expect(changedDisks > 5, "\(kind)")
            #expect(found > 2, "\(kind)")
        }
    }

    @Test("where the last good copy rots, nodes refuse and nobody lies", arguments: 1...12)
    func rotEverywhere(seed: UInt64) {
        let result = SimulationRun(seed: seed, minutes: 0.2, scenario: .rot).run()
        #expect(result.failure == nil, "seed \(seed): \(result.lastEvents)")
    }

    @Test("links lose, double and hold up packets, and stop doing so")
    func packets() throws {
        let bed = try Bed()
        let network = bed.cluster.network
        try bed.cluster.run(milliseconds: 500)
        #expect(network.lost + network.doubled + network.delayed == 0)
        for (kind, count) in [
            (FaultKind.loss, \SimulatedNetwork.lost), (.duplication, \.doubled),
            (.delay, \.delayed),
        ] {
            let before = network[keyPath: count]
            try bed.begin(kind, milliseconds: 3000, seed: 1)
            try bed.write(30)
            try bed.cluster.run(milliseconds: 4000)
            let after = network[keyPath: count]
            #expect(after > before, "\(kind)")
            try bed.write(10)
            #expect(network[keyPath: count] == after, "\(kind)")
        }
    }

    @Test("partitions have the shape of their name and heal")
    func partitions() throws {
        let bed = try Bed()
        let nodes = Array(0..<5)
        /// Pairs that are cut in exactly this way while the fault is on.
        func check(_ kind: FaultKind, seed: UInt64 = 0, _ isCut: (Int, Int) -> Bool) throws {
            try bed.begin(kind, seed: seed)
            let cuts = bed.cuts()
            for a in nodes {
                for b in nodes where a != b {
                    #expect(cuts[a][b] == isCut(a, b), "\(kind) from \(a) to \(b)")
                }
            }
            try bed.cluster.run(milliseconds: 600)
            #expect(bed.isWhole, "\(kind)")
        }
        try check(.isolation) { $0 == 1 || $1 == 1 }
        try check(.oneWay, seed: 0) { from, _ in from == 1 }
        try check(.oneWay, seed: 1) { _, to in to == 1 }
        try check(.ring) { a, b in ![1, 4].contains(abs(a - b)) }
        // Node 1 sees both halves, which do not see each other.
        try check(.bridge) { a, b in
            a != 1 && b != 1 && [0, 2].contains(a) != [0, 2].contains(b)
        }
        try bed.begin(.split, seed: 3)
        let cuts = bed.cuts()
        let side = nodes.filter { !cuts[0][$0] }
        #expect((1...4).contains(side.count))
        for a in nodes {
            for b in nodes where a != b {
                #expect(cuts[a][b] == (side.contains(a) != side.contains(b)))
            }
        }
        try bed.cluster.run(milliseconds: 600)
        #expect(bed.isWhole)
    }

    @Test("an isolated leader is the one that leads; a flapping link is now cut, now whole")
    func aimed() throws {
        let bed = try Bed()
        var led: Set<Int> = []
        for node in bed.cluster.nodes {
            node.lane?.forEachPeer { peer, _ in if peer.isLeader { led.insert(node.number) } }
        }
        try bed.begin(.isolatedLeader, seed: 5)
        let cut = bed.cuts().indices.filter { node in
            bed.cuts()[node].enumerated().allSatisfy { $0.offset == node || $0.element }
        }
        #expect(cut.count == 1)
        #expect(led.contains(cut.first ?? -1))
        try bed.cluster.run(milliseconds: 1000)
        #expect(bed.isWhole)
        try bed.begin(.flapping, milliseconds: 2000)
        var states: Set<Bool> = []
        for _ in 0..<20 {
            try bed.cluster.run(milliseconds: 50)
            states.insert(bed.isWhole)
        }
        #expect(states == [true, false])
        try bed.cluster.run(milliseconds: 1500)
        #expect(bed.isWhole)
    }

    @Test("late answers reach a leader that is cut off already")
    func lateAnswers() throws {
        let bed = try Bed()
        let network = bed.cluster.network
        try bed.begin(.lateAnswers, milliseconds: 9000, seed: 5)
        #expect(bed.isWhole)
        try bed.write(3)
        #expect(network.delayed > 0)
        try bed.cluster.run(milliseconds: 600)
        #expect(!bed.isWhole)
        #expect(network.acrossCuts > 0)
        try bed.cluster.run(milliseconds: 9000)
        #expect(bed.isWhole)
        #expect(network.behaviour.lateTo == nil)
    }

    @Test("a slow node's links are slow, clocks drift and jump")
    func time() throws {
        let bed = try Bed()
        try bed.begin(.slowNode)
        #expect(bed.cluster.network.slowness(of: 1) > 1)
        #expect(bed.cluster.network.slowness(of: 0) == 1)
        try bed.cluster.run(milliseconds: 600)
        #expect(bed.cluster.network.slowness(of: 1) == 1)

        func gap() -> Int64 {
            Int64(bed[1].clock.wallNanoseconds()) - Int64(bed[0].clock.wallNanoseconds())
        }
        func lead() -> Int64 {
            Int64(bed[1].clock.now().nanoseconds) - Int64(bed[0].clock.now().nanoseconds)
        }
        #expect(lead() == 0)
        try bed.begin(.clockJump, seed: 1)
        #expect(abs(gap()) > 1_000_000_000)
        #expect(lead() == 0)
        try bed.begin(.clockJump, milliseconds: 700, seed: 4)
        #expect(lead() == 700_000_000)
        try bed.begin(.clockDrift, milliseconds: 1000, seed: 2000)
        try bed.cluster.run(milliseconds: 800)
        // A thousandth fast.
        #expect((700_700_000...701_000_000).contains(lead()))
        try bed.cluster.run(milliseconds: 500)
        let after = lead()
        try bed.cluster.run(milliseconds: 500)
        #expect(lead() == after)
    }

    @Test("a torn write is torn at the disk's sectors, of 512 or 4096 bytes")
    func tornWrites() throws {
        for size in [512, 4096] {
            let disk = SimulatedFileSystem()
            disk.setTearBytes(size)
            try disk.createDirectory("d")
            try disk.syncDirectory(".")
            let file = try disk.open("d/f", .createNew)
            func fill(_ byte: UInt8) throws {
                let bytes = [UInt8](repeating: byte, count: 32 << 10)
                try bytes.withUnsafeBytes { try file.write($0, at: 0) }
            }
            try fill(1)
            try file.sync()
            try disk.syncDirectory("d")
            try fill(2)
            var smallest = Int.max
            for seed in 0..<40 as Range<UInt64> {
                var random = SeededRandom(seed: seed)
                let left = try #require(disk.crashed(using: &random).contents("d/f"))
                // Runs of old bytes and of new ones begin and end at sectors.
                var start = 0
                for at in 1...left.count where at == left.count || left[at] != left[start] {
                    if left[start] == 2 || left[start] == 1, at - start >= 64 {
                        #expect(start % size == 0 && at % size == 0)
                        smallest = min(smallest, at - start)
                    }
                    start = at
                }
            }
            #expect(smallest == size)
        }
    }

    @Test(
        "a name is durable when its own directory was synced, and a directory when its parent was")
    func names() throws {
        /// How often each of these names is there after a crash, of 60.
        func survivors(_ synced: [String]) throws -> [String: Int] {
            let disk = SimulatedFileSystem()
            try disk.createDirectory("d")
            try disk.createDirectory("d/e")
            for path in ["d/a", "d/e/b"] { try disk.open(path, .createNew).close() }
            for path in synced { try disk.syncDirectory(path) }
            try disk.rename("d/a", to: "d/c")
            var counts: [String: Int] = [:]
            for seed in 0..<60 as Range<UInt64> {
                var random = SeededRandom(seed: seed)
                let left = disk.crashed(using: &random)
                for name in ["d", "d/e", "d/a", "d/c", "d/e/b"] where left.exists(name) {
                    counts[name, default: 0] += 1
                }
            }
            return counts
        }
        let all = try survivors([".", "d", "d/e"])
        #expect(all["d"] == 60)
        #expect(all["d/e/b"] == 60)
        // Renamed and not synced again: one of the two names, never both, never none.
        #expect((5...55).contains(all["d/a"] ?? 0))
        #expect((all["d/a"] ?? 0) + (all["d/c"] ?? 0) == 60)
        let inner = try survivors(["d/e"])
        #expect((5...55).contains(inner["d"] ?? 0))
        // Its directory's name was never durable.
        #expect((1...55).contains(inner["d/e/b"] ?? 0))
        #expect(inner["d/e/b"] == inner["d/e"])
        let outer = try survivors([".", "d"])
        #expect(outer["d/e"] == 60)
        #expect((5...55).contains(outer["d/e/b"] ?? 0))
    }

    @Test("a name moved to another directory is durable in each when that one was synced")
    func movedNames() throws {
        /// How often the old and the new name are there after a crash, of 60.
        func survivors(_ synced: [String]) throws -> (old: Int, new: Int) {
            let disk = SimulatedFileSystem()
            for path in ["d", "e"] { try disk.createDirectory(path) }
            try disk.open("d/a", .createNew).close()
            for path in [".", "d", "e"] { try disk.syncDirectory(path) }
            try disk.rename("d/a", to: "e/a")
            for path in synced { try disk.syncDirectory(path) }
            var counts = (old: 0, new: 0)
            for seed in 0..<60 as Range<UInt64> {
                var random = SeededRandom(seed: seed)
                let left = disk.crashed(using: &random)
                if left.exists("d/a") { counts.old += 1 }
                if left.exists("e/a") { counts.new += 1 }
            }
            return counts
        }
        #expect(try survivors(["e"]) == (60, 60))
        #expect(try survivors(["e", "d"]) == (0, 60))
        let source = try survivors(["d"])
        #expect(source.old == 0 && (5...55).contains(source.new))
        #expect(try survivors(["d", "e"]) == (0, 60))
    }
}

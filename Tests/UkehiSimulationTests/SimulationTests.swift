import Testing
import UkehiBase
import UkehiState

@testable import UkehiSimulation

@Suite("Simulated clusters")
struct SimulationTests {
    @Test("a seed's cluster keeps its promises under faults and comes back", arguments: 1...12)
    func seeds(seed: UInt64) {
        let result = SimulationRun(seed: seed, minutes: 0.3).run()
        #expect(result.failure == nil, "seed \(seed): \(result.lastEvents)")
        // Rarely the checker gives up on a history of many unknown writes; never on several.
        #expect(result.undecided <= 1)
        #expect(result.operations > 10)
    }

    /// Seeds that once found something.
    ///
    /// - 81: a leader whose own term was not durable yet lost power and was elected again in that
    ///   term by the same votes; the consensus core's `electedOnce` is its smallest form.
    @Test("pinned seeds", arguments: [81])
    func pinned(seed: UInt64) {
        let result = SimulationRun(seed: seed, minutes: 1).run()
        #expect(result.failure == nil, "seed \(seed): \(result.lastEvents)")
    }

    /// Seeds on which the simulation itself was once at fault.
    ///
    /// - 201801, 203514: entries durable on disk, and the lane not told of it yet.
    /// - 400071, 400169: a node that found rot while it ran was started again, and again.
    /// - 501058: found while damaged entries came to be repaired.
    @Test("pinned short seeds", arguments: [201_801, 203_514, 400_071, 400_169, 501_058])
    func pinnedShort(seed: UInt64) {
        let result = SimulationRun(seed: seed, minutes: 0.3).run()
        #expect(result.failure == nil, "seed \(seed): \(result.lastEvents)")
    }

    /// Seeds on which repairing damaged entries was once at fault.
    ///
    /// - 501010: a record without a body was taken for the damaged one that begins where it stands.
    /// - 501023: found with it, while damage came to be repaired.
    @Test("pinned seeds of rot: what rots is repaired, by peers")
    func pinnedRot() {
        var mended = 0
        for seed in [501_010, 501_023] as [UInt64] {
            let result = SimulationRun(seed: seed, minutes: 0.3, scenario: .rot).run()
            #expect(result.failure == nil, "seed \(seed): \(result.lastEvents)")
            mended += result.mendedBodies
        }
        #expect(mended > 0)
    }

    @Test("one seed, one run: the trace is the same each time")
    func determinism() {
        for seed in 5...7 as ClosedRange<UInt64> {
            let first = SimulationRun(seed: seed, minutes: 0.2).run()
            let second = SimulationRun(seed: seed, minutes: 0.2).run()
            #expect(first.traceHash == second.traceHash)
            #expect(first.events == second.events)
        }
        #expect(
            SimulationRun(seed: 5, minutes: 0.2).run().traceHash
                != SimulationRun(seed: 6, minutes: 0.2).run().traceHash)
    }

    @Test(
        "no peer changes without being shown to the checkers after that pass",
        arguments: [2, 9, 10])
    func everyChangeIsShown(seed: UInt64) {
        let run = SimulationRun(
            seed: seed, minutes: 0.2, rarePercent: 50, nodes: 5, regions: 12)
        run.cluster.observer.fullLookEvery = 1
        #expect(run.run().failure == nil)
    }

    @Test("events happen by time, those of one moment in the order of scheduling")
    func eventOrder() {
        var random = SeededRandom(seed: 4)
        var queue = EventQueue()
        var waiting: [(time: UInt64, number: Int)] = []
        var happened = -1
        for number in 0..<4000 {
            let time = random.next() % 50
            queue.push(Event(process: nil, life: 0) { happened = number }, at: time)
            waiting.append((time, number))
            while !waiting.isEmpty, random.oneIn(number < 3000 ? 2 : 1) {
                let next = waiting.min { ($0.time, $0.number) < ($1.time, $1.number) }
                #expect(queue.nextTime == next?.time)
                queue.pop().body()
                #expect(happened == next?.number)
                waiting.removeAll { $0.number == happened }
            }
        }
        #expect(queue.nextTime == nil)
    }

    @Test("without faults nothing is refused twice and one leader stays")
    func calm() {
        let result = SimulationRun(seed: 3, minutes: 0.5, scenario: .calm).run()
        #expect(result.failure == nil)
        #expect(result.faults == 0)
        #expect(result.operations > 100)
    }

    @Test("a schedule can be cut down to some of its faults")
    func onlyFaults() {
        let all = SimulationRun(seed: 9, minutes: 0.5)
        #expect(all.faultNumbers.count > 3)
        let some = SimulationRun(
            seed: 9, minutes: 0.5, onlyFaults: Set(all.faultNumbers.prefix(2)))
        #expect(some.faultNumbers == Array(all.faultNumbers.prefix(2)))
        #expect(some.run().failure == nil)
    }

    @Test("shrinking keeps what a failure needs and nothing else")
    func shrinking() {
        let needed: Set = [3, 17, 40]
        var runs = 0
        let kept = Shrinker.shrink(Array(0..<64), maxRuns: 500) { faults in
            runs += 1
            return needed.isSubset(of: faults)
        }
        #expect(Set(kept) == needed)
        #expect(runs < 200)
        #expect(Shrinker.shrink(Array(0..<64), maxRuns: 500) { _ in true } == [])
        #expect(Shrinker.shrink([1, 2, 3], maxRuns: 1) { $0.count == 3 } == [1, 2, 3])
    }
}

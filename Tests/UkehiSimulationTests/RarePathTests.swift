import Testing
import UkehiEnvironment

@testable import UkehiSimulation

@Suite("Rare paths of the code")
struct RarePathTests {
    @Test("production takes none and counts nothing")
    func off() {
        for path in RarePath.allCases { #expect(!RarePaths.off.takes(path)) }
        #expect(RarePaths.off.counts.allSatisfy { $0.asked == 0 && $0.taken == 0 })
    }

    @Test("a run takes the points that are on, at their rate, until it is told to stop")
    func rates() {
        let paths = RarePaths(
            random: SeededRandomSource(seed: 1), only: [.sentLate, .itemAlone], chance: 1 << 14)
        for _ in 0..<4000 { for path in RarePath.allCases { _ = paths.takes(path) } }
        for count in paths.counts {
            #expect(count.asked == 4000)
            let isOn = count.path == .sentLate || count.path == .itemAlone
            #expect(isOn ? (800...1200).contains(count.taken) : count.taken == 0)
        }
        paths.isQuiet = true
        #expect((0..<100).allSatisfy { _ in !paths.takes(.sentLate) })
    }

    @Test("every run draws its own points")
    func draws() {
        func points(_ seed: UInt64) -> [RarePath] {
            let paths = RarePaths(random: SeededRandomSource(seed: seed), enabledPercent: 25)
            for _ in 0..<2000 { for path in RarePath.allCases { _ = paths.takes(path) } }
            return paths.counts.filter { $0.taken > 0 }.map(\.path)
        }
        #expect(points(1) == points(1))
        #expect(points(1) != points(2))
        #expect((5...30).contains(points(3).count))
    }

    /// Method: seeds in which all of them are on, each at a rate of its own, until each was taken.
    @Test("each point is reached by a handful of seeds, and every promise holds")
    func reached() {
        var missing = Set(RarePath.allCases)
        for seed in 100..<112 as Range<UInt64> where !missing.isEmpty {
            let result = SimulationRun(seed: seed, minutes: 0.1, rarePercent: 100).run()
            #expect(result.failure == nil, "seed \(seed): \(result.lastEvents)")
            for count in result.rarePaths where count.taken > 0 { missing.remove(count.path) }
        }
        // What divisions alone reach.
        for seed in 112..<130 as Range<UInt64> where !missing.isEmpty {
            let result = SimulationRun(
                seed: seed, minutes: 0.3, scenario: .splits, rarePercent: 100
            ).run()
            #expect(result.failure == nil, "seed \(seed): \(result.lastEvents)")
            for count in result.rarePaths where count.taken > 0 { missing.remove(count.path) }
        }
        #expect(missing.isEmpty, "never taken: \(missing.map(\.name).sorted())")
    }

    @Test("one seed takes the same paths each time")
    func determinism() {
        for seed in [201, 202] as [UInt64] {
            let first = SimulationRun(seed: seed, minutes: 0.1, rarePercent: 100).run()
            let second = SimulationRun(seed: seed, minutes: 0.1, rarePercent: 100).run()
            #expect(first.traceHash == second.traceHash)
            #expect(first.rarePaths.map(\.asked) == second.rarePaths.map(\.asked))
            #expect(first.rarePaths.map(\.taken) == second.rarePaths.map(\.taken))
            #expect(first.rarePaths.contains { $0.taken > 0 })
        }
    }
}

// What is counted of a region's load, and what is made of it, against twins that keep everything.

import Testing
import UkehiBase
import UkehiSimulation

@testable import UkehiNode

@Suite("the load of a region")
struct LoadSplitTests {
    private static let all = KeyRange.all
    private typealias Sample = KeySamples.Sample

    private func key(_ number: Int) -> Bytes { Bytes(String(100_000 + number)) }

    private func sample(
        _ key: Bytes, to end: Bytes? = nil, write: Bool = false, _ weight: Double = 1
    )
        -> Sample
    {
        Sample(key: key, end: end, isWrite: write, weight: weight)
    }

    // MARK: Counting

    @Test("rates are of the last second, and an average that forgets")
    func meter() {
        var meter = LoadMeter()
        for _ in 0..<30 { meter.countWrite(100) }
        for _ in 0..<10 { meter.countRead(1) }
        #expect(meter.endSecond(milliseconds: 500) == (40, 3010))
        #expect(meter.last == LoadRates(reads: 20, writes: 60, bytes: 6020))
        #expect(meter.average.operations == 40)
        let given = meter.give(0.25)
        #expect(given.average.operations == 10 && meter.average.operations == 30)
        for _ in 0..<20 { meter.endSecond(milliseconds: 1000) }
        #expect(meter.last.operations == 0 && meter.average.operations < 0.001)
    }

    @Test("samples stand for all that was done, whatever the load is, and are few")
    func sampling() {
        for (load, floor) in [(50, 1), (1000, 1), (40_000, 1), (40_000, 78), (3000, 78)] {
            var random = SeededRandom(seed: UInt64(load + floor))
            var samples = KeySamples(floor: floor, salt: 7)
            var twin: [Bytes: Double] = [:]
            var most = 0
            for second in 0..<6 {
                var bytes: UInt64 = 0
                if second >= 2 { twin = twin.mapValues { $0 / 2 } }
                for _ in 0..<load {
                    // A tenth of the operations goes to one key, a fifth of the cost to another.
                    let draw = random.next() % 100
                    let number = draw < 10 ? 1 : draw < 15 ? 2 : 3 + Int(random.next() % 1000)
                    let size = number == 2 ? 3 * KeySamples.operationCost : 0
                    if samples.isDue(bytes: size) {
                        samples.take(key(number), isWrite: true)
                    }
                    bytes += UInt64(size)
                    if second >= 2 {
                        twin[key(number), default: 0] += Double(KeySamples.operationCost + size)
                    }
                    most = max(most, samples.samples.count)
                }
                samples.endSecond(operations: UInt64(load), bytes: bytes)
            }
            #expect(most <= Int(KeySamples.seconds + 1) * KeySamples.mostPerSecond)
            // The last second's samples are halved with the rest.
            let total = twin.values.reduce(0, +) / 2
            let error = abs(samples.weight - total) / total
            #expect(error < 0.2, "\(load) a second: \(samples.weight) for \(total)")
            for number in [1, 2] {
                let seen = samples.samples.filter { $0.key == key(number) }
                    .reduce(0) { $0 + $1.weight }
                let share = seen / samples.weight
                let wanted = (twin[key(number)] ?? 0) / 2 / total
                #expect(abs(share - wanted) < 0.12, "\(load) a second: \(share) for \(wanted)")
            }
        }
    }

    @Test("samples go with time; a key is a copy of its own")
    func forgets() {
        var samples = KeySamples(floor: 1, salt: 1)
        for number in 0..<100 where samples.isDue(bytes: 0) {
            samples.take(key(number), to: "", isWrite: false)
        }
        #expect(!samples.samples.isEmpty && samples.samples.allSatisfy { $0.end == "" })
        for _ in 0..<KeySamples.seconds {
            samples.endSecond(operations: 0, bytes: 0)
        }
        #expect(samples.samples.isEmpty)
        // What ends where it begins reads no range.
        while !samples.isDue(bytes: 0) {}
        samples.take("k", to: "k", isWrite: false)
        #expect(samples.samples[0].end == nil)
    }

    @Test("two runs draw the same samples")
    func repeatable() {
        func run() -> [Bytes] {
            var samples = KeySamples(floor: 3, salt: 5)
            for number in 0..<5000 where samples.isDue(bytes: number % 77) {
                samples.take(key(number), isWrite: true)
            }
            return samples.samples.map(\.key)
        }
        #expect(run() == run())
    }

    // MARK: Choosing

    /// By the definition.
    private func naiveImbalance(_ samples: [Sample], at key: Bytes) -> Double {
        var (left, right, across, total) = (0.0, 0.0, 0.0, 0.0)
        for sample in samples {
            total += sample.weight
            if sample.key >= key {
                right += sample.weight
            } else if let end = sample.end, end.isEmpty || end > key {
                across += sample.weight
            } else {
                left += sample.weight
            }
        }
        return (abs(left - right) + across) / total
    }

    @Test("the key is the best of all that were sampled")
    func choice() {
        var random = SeededRandom(seed: 4)
        var (found, refused) = (0, 0)
        for _ in 0..<400 {
            let count = 1 + Int(random.next() % 60)
            let spread = 1 + random.next() % 30
            let samples = (0..<count).map { _ in
                let number = Int(random.next() % spread)
                let length = 1 + Int(random.next() % spread)
                let kind = random.next() % 4
                return sample(
                    key(number), to: kind == 0 ? key(number + length) : kind == 1 ? "" : nil,
                    Double(1 + random.next() % 4))
            }
            let range = KeyRange(lower: key(3), upper: random.oneIn(2) ? key(20) : "")
            let best = samples.map(\.key).filter { $0 > range.lower && range.contains($0) }
                .map { naiveImbalance(samples, at: $0) }.min()
            switch LoadSplit.choose(samples, in: range, least: 1) {
            case .key(let key):
                found += 1
                #expect(key > range.lower && range.contains(key))
                #expect(abs(naiveImbalance(samples, at: key) - (best ?? 9)) < 1e-9)
                #expect(naiveImbalance(samples, at: key) <= LoadSplit.mostImbalance)
            case .oneKey, .unbalanced:
                refused += 1
                #expect(best ?? 9 > LoadSplit.mostImbalance)
            case .tooFew: Issue.record("there were samples")
            }
        }
        #expect(found > 50 && refused > 50)
    }

    @Test("one popular key is not divided, nor scans across everything; a hot range is")
    func refusals() {
        func choose(_ samples: [Sample]) -> LoadSplit.Choice {
            LoadSplit.choose(samples, in: Self.all, least: 10)
        }
        let even = (0..<100).map { sample(key($0)) }
        #expect(choose(even) == .key(key(50)))
        #expect(choose(even.prefix(9).map { $0 }) == .tooFew)
        #expect(choose(even + [sample(key(50), 900)]) == .oneKey(percent: 90))
        // The popular key is split off where the rest is worth it.
        guard case .key = choose(even + [sample(key(99), 150)]) else {
            Issue.record("three fifths on one key are shared")
            return
        }
        #expect(
            choose((0..<20).map { _ in sample(key(0), to: key(99)) }) == .unbalanced(percent: 100))
        // Cost, not count, is shared: the ten dear ones of a hundred are on both sides.
        let dear = (0..<100).map { sample(key($0), $0 >= 90 ? 100 : 1) }
        guard case .key(let middle) = choose(dear) else { return }
        #expect(middle > key(90) && middle < key(99))
    }

    @Test("keys that are appended are seen as such, others are not")
    func appended() {
        let range = KeyRange(lower: key(0), upper: key(99_999))
        func end(_ samples: [Sample]) -> Bytes? {
            LoadSplit.end(of: samples, in: range, least: 20)
        }
        let appended = (1..<64).map { sample(key($0 * 10), write: true) }
        #expect(end(appended) == key(600))
        #expect(end(appended.prefix(19).map { $0 }) == nil)
        // Several writers, each a little ahead of the others or behind them.
        let woven = (1..<64).map { sample(key($0 * 10 + ($0 % 3) * 12), write: true) }
        #expect(end(woven) != nil)
        // Reads of what is there already change nothing, unless they are what is mostly done.
        let read = appended.enumerated().flatMap { position, write in
            position % 3 == 0 ? [write, sample(key(position))] : [write]
        }
        #expect(end(read) != nil)
        #expect(end(appended.map { sample($0.key) }) == nil)
        var random = SeededRandom(seed: 9)
        #expect(
            end((0..<64).map { _ in sample(key(Int(random.next() % 9999)), write: true) }) == nil)
        #expect(end(appended.reversed()) == nil)
        #expect(end((0..<64).map { _ in sample(key(5), write: true) }) == nil)
    }

    @Test("hot parts have shares that add up, a popular key is one of its own")
    func hotRanges() {
        let samples =
            (0..<80).map { sample(key($0), write: $0 % 4 == 0) }
            + [sample(key(40), 60), sample(key(40), write: true, 60)]
        let hot = LoadSplit.hotRanges(samples, most: 8)
        #expect(hot.first?.first == key(40) && hot.first?.last == key(40))
        // One write of the eighty is of this key, too.
        #expect(abs((hot.first?.readShare ?? 0) - 60.0 / 200) < 1e-9)
        #expect(abs((hot.first?.writeShare ?? 0) - 61.0 / 200) < 1e-9)
        let others = hot.dropFirst()
        #expect(others.allSatisfy { $0.readShare > 2 * $0.writeShare })
        #expect(abs(others.reduce(0) { $0 + $1.writeShare } - 19.0 / 200) < 0.02)
        #expect(hot.count <= 8)
        #expect(hot.allSatisfy { $0.first <= $0.last })
        #expect(abs(hot.reduce(0) { $0 + $1.share } - 1) < 0.05)
        #expect(zip(hot, hot.dropFirst()).allSatisfy { $0.share >= $1.share })
        #expect(LoadSplit.hotRanges([], most: 8).isEmpty)
        #expect(LoadSplit.hotRanges(samples, most: 0).isEmpty)
    }

    @Test("an answer shows the hottest regions, and no more keys than go over at once")
    func answers() {
        let long = Bytes([UInt8](repeating: 1, count: Limits.maxKeyBytes))
        let loads = (0..<1000).map { number in
            RegionLoadInfo(
                region: RegionID(UInt64(number)), range: .all, readsPerSecond: Double(number),
                writesPerSecond: 0, bytesPerSecond: 0, sizeBytes: nil,
                hot: [HotRange(first: long, last: long, readShare: 1, writeShare: 0)], refusals: [])
        }
        let question = LoadQuestion(top: 900)
        #expect(question.choose(loads).map(\.region.rawValue) == (100...999).reversed())
        #expect(question.answer(loads).filter { !$0.hot.isEmpty }.count == 512)
        #expect(question.answer(loads)[0].hot.count == 1)
        #expect(LoadQuestion(region: RegionID(7), top: 5).choose(loads).count == 1)
        #expect(LoadQuestion(top: -1).choose(loads).isEmpty)
    }

    // MARK: Judging

    private func rules(_ threshold: Int) -> LoadRules {
        var options = NodeOptions(name: "n")
        options.splitLoadPerSecond = threshold
        options.splitBytes = 8000
        return LoadRules(options)
    }

    /// A second of operations on these keys.
    private func spend(
        _ load: inout RegionLoad, _ count: Int, threshold: Int, _ key: (Int) -> Bytes
    ) {
        for number in 0..<count { load.countWrite(key(number), bytes: 1) }
        load.endSecond(milliseconds: 1000, threshold: threshold)
    }

    @Test(
        "load is divided when it stays, not below the threshold, not where the lane does more elsewhere"
    )
    func verdicts() {
        let rules = rules(100)
        var random = SeededRandom(seed: 2)
        var load = RegionLoad(region: RegionID(2), threshold: 100)
        func verdict(share: Double = 1) -> RegionLoad.Verdict? {
            load.verdict(rules, in: Self.all, share: share, at: 10)
        }
        func second(_ count: Int) {
            spend(&load, count, threshold: 100) { _ in key(Int(random.next() % 500)) }
        }
        for _ in 0..<5 { second(99) }
        #expect(verdict() == nil)
        second(400)
        #expect(verdict() == nil)
        second(400)
        guard case .divide(_, .load)? = verdict() else {
            Issue.record("not divided after two seconds: \(String(describing: verdict()))")
            return
        }
        #expect(verdict(share: 0.1) == .hindered(.smallShare(percent: 10)))
        second(50)
        #expect(verdict() == nil)
    }

    @Test("a refusal is remembered until the load is another, or a minute has passed")
    func remembered() {
        let rules = rules(100)
        var load = RegionLoad(region: RegionID(2), threshold: 100)
        func verdict(at tick: UInt64) -> RegionLoad.Verdict? {
            load.verdict(rules, in: Self.all, share: 1, at: tick)
        }
        for _ in 0..<3 { spend(&load, 400, threshold: 100) { _ in "k" } }
        #expect(verdict(at: 20) == .hindered(.oneKey(percent: 100)))
        load.remember(.oneKey(percent: 100), at: 20)
        #expect(load.loadHindrance?.reason == .oneKey(percent: 100))
        // What passes is shown, and decides nothing: the lasting reason holds.
        let isNews = [30, 31].map { load.remember(.membersChange, at: $0) }
        #expect(isNews == [true, false])
        #expect(load.loadHindrance?.reason == .membersChange && load.loadHindrance?.at == 31)
        #expect(load.hindrance?.reason == .oneKey(percent: 100))
        for second in 1...50 as ClosedRange<UInt64> {
            spend(&load, 400, threshold: 100) { _ in "k" }
            #expect(verdict(at: 20 + 20 * second) == nil)
        }
        #expect(verdict(at: 20 + rules.ticksUntilAgain) != nil)
        spend(&load, 900, threshold: 100) { _ in "k" }
        #expect(verdict(at: 40) != nil)
    }

    @Test(
        "where keys are appended the end is divided off once, and again when there is enough below")
    func ends() {
        let rules = rules(100)
        var load = RegionLoad(region: RegionID(2), threshold: 100)
        var next = 0
        func second() {
            spend(&load, 400, threshold: 100) { _ in
                next += 1
                return key(next)
            }
        }
        for _ in 0..<3 { second() }
        guard case .divide(let end, .end)? = load.verdict(rules, in: Self.all, share: 0.01, at: 9)
        else {
            Issue.record("not divided at its end")
            return
        }
        #expect(end > key(next * 8 / 10))
        let below = KeyRange(lower: "", upper: end)
        let parts = load.divide(
            into: [below], because: .end, threshold: 100, ids: [RegionID(3)])
        #expect(parts[0].meter.average.writes > load.meter.average.writes)
        #expect(load.samples.samples.allSatisfy { $0.key >= end })
        for _ in 0..<2 { second() }
        let range = KeyRange(lower: end, upper: "")
        #expect(load.verdict(rules, in: range, share: 1, at: 9) == .hindered(.appended))
        for _ in 0..<2 { second() }
        guard case .divide(_, .end)? = load.verdict(rules, in: range, share: 1, at: 9) else {
            Issue.record("not divided again")
            return
        }
    }

    @Test(
        "a region is looked at when it may have grown past the limit, less and less where it does not grow"
    )
    func looks() {
        var size = RegionSize()
        #expect(size.isDue(at: 0) && size.estimate == nil)
        size.found(100, limit: 800)
        size.wrote(699)
        #expect(!size.isDue(at: 0) && size.estimate == 799)
        size.wrote(1)
        #expect(size.isDue(at: 0))
        size.found(790, limit: 800)
        var spacings: [Int] = []
        for _ in 0..<5 {
            var written = 0
            while !size.isDue(at: 0) {
                size.wrote(1)
                written += 1
            }
            spacings.append(written)
            // The same keys again and again.
            size.found(790, limit: 800)
        }
        #expect(spacings == [100, 200, 400, 800, 800])
        size.lookAgain(after: 7)
        #expect(!size.isDue(at: 6) && size.isDue(at: 7))
    }
}

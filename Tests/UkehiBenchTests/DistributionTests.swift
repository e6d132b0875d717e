import Testing
import UkehiBase

@testable import UkehiCommand

/// Draws have the distribution that their name promises; with fixed seeds, so that they always have.
@Suite("bench: distributions")
struct DistributionTests {
    private func counts(
        _ distribution: KeyDistribution, keys: Int, draws: Int, seed: UInt64 = 7
    ) throws -> [Int] {
        var random = BenchRandom(seed: seed)
        var counts = [Int](repeating: 0, count: keys)
        for _ in 0..<draws { counts[try #require(distribution.draw(&random))] += 1 }
        return counts
    }

    @Test(
        "zipf: rank r comes in proportion to 1 / r^s, by chi squared",
        arguments: [(10, 0.99), (1000, 0.99), (1000, 0.5), (100, 1.5)] as [(Int, Double)])
    func zipf(keys: Int, exponent: Double) throws {
        let draws = 400_000
        let zipf = ZipfDistribution(count: UInt64(keys), exponent: exponent)
        let found = try counts(.zipf(zipf), keys: keys, draws: draws)
        let weights = (1...keys).map { inversePower(Double($0), exponent) }
        let sum = weights.reduce(0, +)
        var chiSquared = 0.0
        for (count, weight) in zip(found, weights) {
            let expected = weight / sum * Double(draws)
            chiSquared += (Double(count) - expected) * (Double(count) - expected) / expected
        }
        // Mean n - 1, variance 2 (n - 1): four standard deviations are enough for any seed but a few.
        let freedom = Double(keys - 1)
        #expect(chiSquared < freedom + 4 * (2 * freedom).squareRoot())
        #expect(chiSquared > freedom - 4 * (2 * freedom).squareRoot())
    }

    /// 1 / base^exponent.
    private func inversePower(_ base: Double, _ exponent: Double) -> Double {
        // By the distribution's own functions it would prove nothing.
        var result = 1.0
        var base = base
        var exponent = exponent
        while exponent >= 1 {
            result *= base
            exponent -= 1
        }
        // The rest in halves: square roots alone.
        for _ in 0..<50 {
            base = base.squareRoot()
            exponent *= 2
            if exponent >= 1 {
                result *= base
                exponent -= 1
            }
        }
        return 1 / result
    }

    @Test(
        "zipf over a hundred million keys: the shares of the first, of the first hundred, of the rest"
    )
    func wideZipf() throws {
        let zipf = ZipfDistribution(count: 100_000_000, exponent: 0.99)
        var random = BenchRandom(seed: 3)
        let draws = 200_000
        var first = 0
        var hundred = 0
        var largest: UInt64 = 0
        for _ in 0..<draws {
            let number = zipf.draw(&random)
            #expect(number < 100_000_000)
            if number == 0 { first += 1 }
            if number < 100 { hundred += 1 }
            largest = max(largest, number)
        }
        // The sum of all weights, by Euler and Maclaurin: 20.8029; of the first hundred: 5.2946.
        #expect(abs(Double(first) / Double(draws) - 1 / 20.8029) < 0.002)
        #expect(abs(Double(hundred) / Double(draws) - 5.2946 / 20.8029) < 0.004)
        #expect(largest > 90_000_000)
    }

    @Test("one key, and few")
    func fewKeys() throws {
        for kind in WorkloadKind.allCases where kind != .sequential {
            for keys in 1...3 {
                let distribution = KeyDistribution(kind, count: UInt64(keys), hot: HotKeys())
                let found = try counts(distribution, keys: keys, draws: 1000)
                #expect(found.allSatisfy { $0 > 0 }, "\(kind), \(keys) keys")
                #expect(!distribution.isExhausted)
            }
        }
    }

    @Test("hot-range: nine of ten operations on one key of a hundred, side by side in the middle")
    func hotRange() throws {
        let hot = HotRangeDistribution(count: 10_000, HotKeys(operations: 0.9, keys: 0.01))
        #expect(hot.hot == 4950..<5050)
        let found = try counts(.hotRange(hot), keys: 10_000, draws: 200_000)
        let share = Double(found[4950..<5050].reduce(0, +)) / 200_000
        #expect(abs(share - 0.9) < 0.005)
        // Each hot key is used as often as the others; the cold ones, too.
        #expect(found[4950..<5050].allSatisfy { (1500...2100).contains($0) })
        let cold = found[..<4950] + found[5050...]
        #expect(cold.count { $0 == 0 } > 100 && (cold.max() ?? 0) < 20)
        #expect(found[0] + found[1] + found[2] > 0 && found[9997] + found[9998] + found[9999] > 0)
    }

    @Test("uniform: every key alike")
    func uniform() throws {
        let found = try counts(.uniform(count: 100), keys: 100, draws: 100_000)
        #expect(found.allSatisfy { (850...1150).contains($0) })
    }

    @Test("sequential: every number once, whoever asks, and then no more")
    func sequential() throws {
        let distribution = KeyDistribution(.sequential, count: 5, hot: HotKeys())
        let copy = distribution
        var random = BenchRandom(seed: 1)
        #expect(distribution.draw(&random) == 0)
        #expect(copy.draw(&random) == 1)
        #expect((2...4).allSatisfy { distribution.draw(&random) == $0 })
        #expect(distribution.isExhausted && copy.draw(&random) == nil)
        #expect(distribution.draw(&random) == nil)
    }

    @Test("the same seed draws the same", arguments: WorkloadKind.allCases)
    func repeatable(kind: WorkloadKind) {
        func numbers() -> [Int?] {
            let distribution = KeyDistribution(kind, count: 1000, hot: HotKeys())
            var random = BenchRandom(seed: 11)
            return (0..<100).map { _ in distribution.draw(&random) }
        }
        #expect(numbers() == numbers())
    }

    @Test("ycsb's mixes")
    func mixes() {
        func weights(_ kind: WorkloadKind) -> [Int]? { kind.mix?.weights }
        #expect(weights(.ycsbA) == [50, 50, 0, 0, 0])
        #expect(weights(.ycsbB) == [95, 5, 0, 0, 0])
        #expect(weights(.ycsbC) == [100, 0, 0, 0, 0])
        #expect(weights(.ycsbF) == [50, 0, 0, 0, 50])
        #expect(weights(.zipf) == nil)
    }

    @Test(
        "keys that ascend by their numbers, all over the key space or behind it",
        arguments: [
            (KeySpace.Order.ascending, 16), (.ascending, 6), (.appended, 16), (.appended, 7),
        ])
    func order(order: KeySpace.Order, keyBytes: Int) {
        let space = KeySpace(count: 20_000, keyBytes: keyBytes, order: order)
        let keys = (0..<UInt64(20_000)).map { space.key($0) }
        #expect(zip(keys, keys.dropFirst()).allSatisfy { $0 < $1 })
        #expect(keys.allSatisfy { $0.count == keyBytes })
        for number in stride(from: UInt64(0), to: 20_000, by: 777) {
            let prefix = KeySpace.prefix(of: space.pair(of: number))
            #expect(Array(keys[Int(number)].array.prefix(2)) == prefix)
        }
        let firsts = Set(keys.map { $0.array[0] })
        #expect(firsts.count == (order == .ascending ? 36 : 1))
        #expect(keys[19_999].array[0] == UInt8(ascii: "z"))
    }
}

// The radix tree against a dictionary and a sort.

import Testing
import UkehiBase

@testable import UkehiState

@Suite("the radix tree")
struct RadixTreeTests {
    private func put(_ tree: RadixTree, _ key: Bytes, _ value: Bytes, _ version: UInt64) {
        key.withUnsafeBytes { key in
            value.withUnsafeBytes { tree.put(key, $0, version: version, expiresAt: 0) }
        }
    }
    private func keys(_ tree: RadixTree, from lower: Bytes = Bytes()) -> [Bytes] {
        lower.withUnsafeBytes { lower in
            var cursor = RadixCursor(tree, from: lower)
            var keys: [Bytes] = []
            while let leaf = cursor.next() { keys.append(Bytes(copying: leaf.key)) }
            return keys
        }
    }
    private func value(_ tree: RadixTree, _ key: Bytes) -> Bytes? {
        key.withUnsafeBytes { tree.find($0).map { Bytes(copying: $0.value) } }
    }

    /// Keys of one shape: what stresses one part of the tree.
    enum Shape: Int, CaseIterable, Sendable {
        case dense, text, sharedPrefixes, nested, noise

        func key(_ dice: inout Dice) -> Bytes {
            switch self {
            case .dense: [UInt8(dice.roll(2)), UInt8(dice.roll(256)), UInt8(dice.roll(3))]
            case .text: Bytes("user\(dice.roll(3000))")
            case .sharedPrefixes:
                Bytes(
                    String(repeating: "p", count: dice.roll(3) * 13)
                        + String(repeating: "q", count: dice.roll(4) * 7) + "\(dice.roll(9))")
            case .nested: Bytes(String(repeating: "n", count: dice.roll(300)))
            case .noise: dice.bytes(dice.roll(5))
            }
        }
    }

    @Test(
        "puts, removals and range removals leave what a dictionary would",
        arguments: Shape.allCases)
    func model(_ shape: Shape) {
        var dice = Dice(UInt64(shape.rawValue) + 1)
        let tree = RadixTree()
        var twin: [Bytes: Bytes] = [:]
        for step in 0..<12_000 {
            // Phases of growth and of shrinking, so that nodes change size both ways.
            let shrinking = (step / 2000) % 2 == 1
            let key = shape.key(&dice)
            if dice.roll(10) < (shrinking ? 7 : 2) {
                let removed = key.withUnsafeBytes { tree.remove($0) }
                #expect(removed == (twin.removeValue(forKey: key) != nil))
            } else {
                let value = dice.bytes(dice.roll(dice.roll(20) == 0 ? 3000 : 30))
                put(tree, key, value, UInt64(step))
                twin[key] = value
            }
            #expect(tree.count == twin.count)
            let probe = shape.key(&dice)
            #expect(value(tree, probe) == twin[probe])
            guard step % 400 == 399 else { continue }
            let sorted = twin.keys.sorted()
            #expect(keys(tree) == sorted)
            for _ in 0..<20 {
                let lower = shape.key(&dice)
                #expect(keys(tree, from: lower) == sorted.filter { $0 >= lower })
            }
            guard step % 2000 == 1999 else { continue }
            let a = shape.key(&dice)
            let b = shape.key(&dice)
            let (lower, upper) = (min(a, b), max(a, b))
            guard lower < upper else { continue }
            lower.withUnsafeBytes { lower in
                upper.withUnsafeBytes { tree.removeRange(lower, $0) }
            }
            twin = twin.filter { $0.key < lower || $0.key >= upper }
            #expect(keys(tree) == twin.keys.sorted())
        }
        tree.removeAll()
        #expect(keys(tree).isEmpty)
    }

    @Test("keys nested to the longest one")
    func deep() {
        let tree = RadixTree()
        let long = [UInt8](repeating: 9, count: CommandLimits.maxKeyBytes)
        for length in 0...long.count { put(tree, Bytes(Array(long[..<length])), "v", 1) }
        #expect(tree.count == long.count + 1)
        #expect(keys(tree).map(\.count) == Array(0...long.count))
        #expect(keys(tree, from: Bytes(Array(long[..<4000]))).count == 97)
        for length in stride(from: long.count, through: 0, by: -2) {
            _ = Bytes(Array(long[..<length])).withUnsafeBytes { tree.remove($0) }
        }
        #expect(keys(tree).map(\.count) == Array(stride(from: 1, to: long.count, by: 2)))
    }
}

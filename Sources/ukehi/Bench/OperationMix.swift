// What the clients do: shares of reads, writes, compare-and-sets, deletes and read-modify-writes.

/// One kind of operation.
enum OperationKind: String, CaseIterable, Sendable {
    case get, put, cas, delete
    /// Reads a key, then sets it on condition that nobody has meanwhile; from the beginning if somebody has.
    case modify
}

/// Weights of the kinds, drawn by one random number.
struct OperationMix: Equatable, Sendable {
    /// In the order of ``OperationKind/allCases``.
    private(set) var weights: [Int]
    private let getLimit: UInt64
    private let putLimit: UInt64
    private let casLimit: UInt64
    private let deleteLimit: UInt64

    /// Traps when all weights are zero or one is negative: callers check input first.
    private init(weights: [Int]) {
        self.weights = weights
        let sum = Double(weights.reduce(0, +))
        precondition(sum > 0)
        // 2^32 where the shares end, which no draw of 32 bits reaches.
        func limit(_ parts: ArraySlice<Int>) -> UInt64 {
            UInt64((Double(parts.reduce(0, +)) / sum * 4_294_967_296).rounded())
        }
        getLimit = limit(weights[..<1])
        putLimit = limit(weights[..<2])
        casLimit = limit(weights[..<3])
        deleteLimit = limit(weights[..<4])
    }

    /// Reads with `readRatio` in 0...1, puts otherwise.
    init?(readRatio: Double) {
        guard readRatio >= 0, readRatio <= 1 else { return nil }
        let reads = Int((readRatio * 1_000_000).rounded())
        self.init(weights: [reads, 1_000_000 - reads, 0, 0, 0])
    }

    /// `get=50,put=40,cas=8,delete=2`: any of the five, weights that are not all zero.
    init?(parsing text: String) {
        var weights = [0, 0, 0, 0, 0]
        var seen: Set<OperationKind> = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let halves = part.split(separator: "=", omittingEmptySubsequences: false)
            guard halves.count == 2, let kind = OperationKind(rawValue: String(halves[0])),
                let weight = Int(halves[1]), weight >= 0, weight <= 1_000_000,
                seen.insert(kind).inserted,
                let position = OperationKind.allCases.firstIndex(of: kind)
            else { return nil }
            weights[position] = weight
        }
        guard weights.contains(where: { $0 > 0 }) else { return nil }
        self.init(weights: weights)
    }

    /// The kind that a random number stands for.
    @inline(__always)
    func kind(_ random: UInt64) -> OperationKind {
        let point = random >> 32
        if point < getLimit { return .get }
        if point < putLimit { return .put }
        if point < casLimit { return .cas }
        return point < deleteLimit ? .delete : .modify
    }

    /// Whether any operation reads, so that keys should exist before the load.
    var reads: Bool { weights[0] > 0 || weights[2] > 0 || weights[4] > 0 }
    /// Whether only puts and gets occur.
    var isPlain: Bool { weights[2...].allSatisfy { $0 == 0 } }
    /// Whether anything is written.
    var writes: Bool { weights[1...].contains { $0 > 0 } }
}

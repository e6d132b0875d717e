// Random commands and entries, from a seed.

import UkehiBase
import UkehiState

/// A small generator with the same numbers everywhere (SplitMix64).
struct Dice: RandomNumberGenerator {
    var state: UInt64
    init(_ seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
    mutating func roll(_ sides: Int) -> Int { Int(next() % UInt64(sides)) }
    mutating func bytes(_ count: Int) -> Bytes {
        var bytes: [UInt8] = []
        for _ in 0..<count { bytes.append(UInt8(truncatingIfNeeded: next())) }
        return Bytes(bytes)
    }
}

/// Commands over few keys, so that they meet.
struct Workload {
    var dice: Dice
    let prefix: String
    let keys: Int

    init(seed: UInt64, prefix: String, keys: Int = 24) {
        dice = Dice(seed)
        self.prefix = prefix
        self.keys = keys
    }

    mutating func key() -> Bytes {
        // Some keys are prefixes of others, and one is now and then outside the region.
        if dice.roll(60) == 0 { return Bytes("~outside") }
        return Bytes(prefix + String(dice.roll(keys), radix: 3))
    }

    mutating func value() -> Bytes {
        switch dice.roll(6) {
        case 0: Bytes("\(Int64(bitPattern: dice.next()) >> dice.roll(64))")
        case 1: Bytes()
        case 2: dice.bytes(dice.roll(2000))
        default: dice.bytes(dice.roll(40))
        }
    }

    mutating func expiry(_ time: UInt64) -> UInt64? {
        dice.roll(5) == 0 ? max(1, time) + UInt64(dice.roll(60)) : nil
    }

    mutating func expectation(_ twin: NaiveRegion, _ key: Bytes) -> Expectation {
        let stored = twin.pairs[key]
        switch dice.roll(5) {
        case 0: return .absent
        case 1: return .version(stored?.version ?? 0)
        case 2: return .version(UInt64(dice.roll(50)))
        case 3: return .value(stored?.value ?? Bytes())
        default: return .value(value())
        }
    }

    mutating func amount() -> Int64 {
        dice.roll(20) == 0 ? Int64(bitPattern: dice.next()) : Int64(dice.roll(200)) - 100
    }

    mutating func range() -> Command {
        while true {
            let lower = key()
            let upper = dice.roll(8) == 0 ? Bytes() : key()
            if upper.isEmpty || lower < upper { return .deleteRange(lower: lower, upper: upper) }
        }
    }

    mutating func command(_ twin: NaiveRegion, nested: Bool = false) -> Command {
        switch dice.roll(nested ? 11 : 16) {
        case 0...4: return .put(key: key(), value: value(), expiresAt: expiry(twin.time))
        case 5, 6: return .delete(key: key())
        case 7, 8: return .increment(key: key(), by: amount())
        case 9: return range()
        case 10:
            let key = key()
            if nested { return .check(key: key, expected: expectation(twin, key)) }
            return .user(key: key, body: "x")
        case 11, 12, 13:
            let key = key()
            let removes = dice.roll(4) == 0
            return .compareAndSet(
                key: key, expected: expectation(twin, key), value: removes ? nil : value(),
                expiresAt: removes ? nil : expiry(twin.time))
        default:
            var commands: [Command] = []
            for _ in 0..<(1 + dice.roll(6)) { commands.append(command(twin, nested: true)) }
            return .batch(commands)
        }
    }
}

/// Packs commands into one entry.
func entry(
    _ commands: [Command], index: UInt64, term: UInt64 = 1, time: UInt64 = 0,
    epoch: RegionEpoch = RegionEpoch(confVersion: 1, version: 1)
) throws -> Entry {
    var packer = EntryPacker(chunkCapacity: 1024)
    packer.begin(epoch: epoch, time: time)
    for command in commands {
        guard packer.append(try command.encoded()) else { break }
    }
    return Entry(term: Term(term), index: LogIndex(index), data: packer.finish())
}

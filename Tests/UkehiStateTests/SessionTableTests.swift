// The table of sessions against a twin that keeps everything it ever saw.

import Testing
import UkehiBase
import UkehiState

/// What a region should remember, said as plainly as possible. It never forgets what was carried out, so
/// that a second execution shows.
private struct NaiveSessions {
    struct Session {
        var salt: UInt32
        var lastUse: UInt64
        var floor: UInt32
        var results: [UInt32: CommandResult] = [:]
    }
    var limits: SessionLimits
    var horizon: UInt64 = 0
    var sessions: [UInt64: Session] = [:]
    var carriedOut: Set<[UInt64]> = []

    mutating func run(
        _ id: UInt64, _ sequence: SessionSequence, time: UInt64, _ result: CommandResult
    ) -> SessionTable.Verdict {
        let expired = SessionTable.Verdict.expired(openAt: max(time / 1_000_000, horizon + 1))
        let opened = id >> 22
        let floor = sequence.number - sequence.waiting
        if let session = sessions[id] {
            if session.salt != sequence.salt { return expired }
            if let known = session.results[sequence.number], sequence.number >= session.floor {
                return .remembered(known)
            }
            if sequence.number < session.floor { return expired }
        } else if opened <= horizon || opened > time / 1_000_000 + limits.maxAheadMilliseconds {
            return expired
        }
        #expect(carriedOut.insert([id, UInt64(sequence.salt), UInt64(sequence.number)]).inserted)
        var session =
            sessions[id] ?? Session(salt: sequence.salt, lastUse: time, floor: floor)
        session.lastUse = time
        session.floor = max(session.floor, floor)
        session.results[sequence.number] = result
        sessions[id] = session
        let others = sessions.filter { $0.key != id }
            .sorted { ($0.value.lastUse, $0.key) < ($1.value.lastUse, $1.key) }
        let isFull = sessions.count > limits.maxSessions
        let evicted = others.filter {
            isFull || time - $0.value.lastUse > limits.maxIdleNanoseconds
        }.prefix(max(1, limits.maxSessions / 256))
        for (name, _) in evicted {
            sessions[name] = nil
            horizon = max(horizon, name >> 22)
        }
        return .fresh
    }
}

@Suite("the table of sessions")
struct SessionTableTests {
    private static let results: [CommandResult] = [
        .applied(version: 7), .counter(value: -3, version: 9), .conditionFailed(current: 4),
        .conditionFailed(current: nil), .invalid(.notACounter),
    ]

    private static func stored(_ entry: SessionEntry) -> Bytes {
        var writer = ByteWriter(chunkCapacity: 256)
        entry.encode(into: &writer)
        return writer.take()
    }

    private static func read(_ bytes: Bytes) -> SessionEntry? {
        bytes.withUnsafeBytes { SessionEntry(stored: $0) }
    }

    @Test("random commands, evictions, stalls and restarts: what the twin says, and once each")
    func model() throws {
        for seed in 1...60 as ClosedRange<UInt64> {
            var dice = Dice(seed)
            var limits = SessionLimits()
            limits.maxSessions = [1, 3, 8, 600][dice.roll(4)]
            limits.maxIdleNanoseconds = UInt64([50, 5_000, 1 << 40][dice.roll(3)]) * 1_000_000
            limits.maxAheadMilliseconds = 300
            var twin = NaiveSessions(limits: limits)
            var table = SessionTable(limits: limits)
            var kept: [UInt64: Bytes] = [:]
            var time: UInt64 = 1_000_000_000
            var names: [(id: UInt64, salt: UInt32, next: UInt32)] = []
            for _ in 0..<500 {
                // A batch, now and then taken back.
                let isTakenBack = dice.roll(6) == 0
                let before = (twin, time)
                for _ in 0..<(1 + dice.roll(6)) {
                    time += UInt64(dice.roll(20)) * 1_000_000
                    if names.isEmpty || dice.roll(6) == 0 {
                        let opened = Int(time / 1_000_000) + dice.roll(700) - 300
                        names.append(
                            (
                                SessionID(
                                    openedAt: UInt64(max(1, opened)), random: dice.next()
                                ).rawValue, UInt32(dice.roll(1 << 24)), 1
                            ))
                    }
                    let position = max(0, names.count - 1 - dice.roll(12))
                    let number = UInt32(max(1, Int(names[position].next) - dice.roll(5)))
                    names[position].next = max(names[position].next, number + 1)
                    let waiting = dice.roll(min(Int(number), dice.roll(8) == 0 ? 64 : 3))
                    let salt = dice.roll(40) == 0 ? 0 : names[position].salt
                    let sequence = SessionSequence(salt: salt, waiting: waiting, number: number)
                    let result = Self.results[dice.roll(5)]
                    let id = names[position].id
                    let verdict = table.judge(id, sequence, time: time)
                    if verdict == .fresh { table.remember(id, sequence, result, time: time) }
                    #expect(verdict == twin.run(id, sequence, time: time, result))
                }
                if isTakenBack {
                    table.takeBack()
                    (twin, time) = before
                } else {
                    table.save { kept[$0] = $1.map(Self.stored) }
                    table.keep()
                }
                #expect(table.horizon == twin.horizon)
                #expect(table.count == twin.sessions.count)
                #expect(Set(kept.keys) == Set(twin.sessions.keys))
                guard dice.roll(10) == 0 else { continue }
                // A restart: all there is, is what was stored.
                table = SessionTable(limits: limits, horizon: table.horizon)
                for (id, bytes) in kept {
                    #expect(table.load(id, try #require(Self.read(bytes))))
                }
            }
        }
    }

    @Test("a copy leaves out who is idle, and refuses that one from then on")
    func copy() {
        var limits = SessionLimits()
        limits.maxIdleNanoseconds = 1_000_000_000
        var table = SessionTable(limits: limits, horizon: 3)
        let first = SessionSequence(salt: 1, waiting: 0, number: 1)
        let names = [10, 40, 20].map { SessionID(openedAt: $0, random: 5).rawValue }
        let used: [UInt64] = [1_000_000_000, 2_000_000_000, 2_500_000_000]
        for (name, time) in zip(names, used) {
            #expect(table.judge(name, first, time: time) == .fresh)
            table.remember(name, first, .applied(version: time), time: time)
        }
        table.keep()
        // The first one was idle when the last one came.
        #expect(table.count == 2 && table.horizon == 10)
        let all = table.copied(at: 1_500_000_000)
        #expect(all.count == table.count && all.horizon == table.horizon)
        let some = table.copied(at: 3_200_000_000)
        #expect(some.count == 1 && some.horizon == 40)
        #expect(
            some.judge(names[2], first, time: 3_200_000_000)
                == .remembered(.applied(version: used[2])))
        for name in names[0...1] {
            #expect(some.judge(name, first, time: 3_200_000_000) == .expired(openAt: 3200))
        }
        let none = table.copied(at: 9_000_000_000)
        #expect(none.count == 0 && none.horizon == 40)
    }

    @Test("a session's results stay within a window, whatever a client says")
    func isBounded() {
        var table = SessionTable(limits: SessionLimits())
        var dice = Dice(5)
        let id = SessionID(openedAt: 1000, random: 1).rawValue
        var most = 0
        var number: UInt32 = 0
        for _ in 0..<2000 {
            number += UInt32(dice.roll(3))
            guard number > 0 else { continue }
            let sequence = SessionSequence(
                salt: 1, waiting: min(Int(number) - 1, 63), number: number)
            if table.judge(id, sequence, time: 1 << 30) == .fresh {
                table.remember(id, sequence, .applied(version: 1), time: 1 << 30)
            }
            table.save { most = max(most, $1.map { Self.stored($0).count } ?? 0) }
            table.keep()
        }
        #expect(most > 20 && most <= 20 + 64 * 18)
    }

    @Test("what a session is stored as, and that nothing else is taken for one")
    func golden() throws {
        var entry = SessionEntry(salt: 0x0a0b0c, lastUse: 5, floor: 10)
        for (offset, result) in Self.results.enumerated() {
            entry.add(
                RememberedResult(10 + UInt32(offset) * 2, result), floor: 10, time: 0x0102)
        }
        let hex =
            "01 05 0000 0c0b0a00 0201000000000000 0a000000" + "00 00 0700000000000000"
            + "02 01 fdffffffffffffff 0900000000000000" + "04 02 0400000000000000" + "06 03"
            + "08 05 09"
        let bytes = GoldenBytesTests.bytes(hex)
        #expect(Self.stored(entry) == bytes)
        #expect(Self.read(bytes) == entry)
        for length in 0..<bytes.count { #expect(Self.read(bytes[0..<length]) == nil) }
        #expect(Self.read(Bytes(bytes.array + [0])) == nil)
        var dice = Dice(9)
        for _ in 0..<20_000 {
            var changed = bytes.array
            changed[dice.roll(changed.count)] = UInt8(dice.roll(256))
            // Whatever it is taken for is written as it was read.
            if let found = Self.read(Bytes(changed)) {
                #expect(Self.stored(found) == Bytes(changed))
            }
        }
    }

    @Test("names and numbers are laid out as the format says")
    func layout() {
        #expect(SessionID(openedAt: 5, random: .max).rawValue == 5 << 22 | 0x3f_ffff)
        #expect(SessionID(openedAt: .max, random: 0).opened == 1 << 42 - 1)
        let sequence = SessionSequence(salt: 0xabcdef, waiting: 3, number: 9)
        #expect(sequence.rawValue == 0xabcd_ef03_0000_0009)
        #expect(SessionSequence(rawValue: sequence.rawValue) == sequence)
        #expect(SessionSequence(rawValue: 0) == nil)
        #expect(SessionSequence(rawValue: 64 << 32 | 100) == nil)
        #expect(SessionSequence(rawValue: 2 << 32 | 2) == nil)
    }
}

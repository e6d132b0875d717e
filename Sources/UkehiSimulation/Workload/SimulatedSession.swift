// A client's session as an embedder's would be (Ukehi/Session.swift), and worse: writes of the past come
// again, as a network may send them.

import UkehiBase
import UkehiState

struct SimulatedSession {
    /// One write, asked once or more.
    struct Write {
        var write: SessionWrite
        var record: Bytes
        var key: Bytes
        fileprivate var asksLeft: Int
        /// It was asked, and nobody has said what became of it.
        private(set) var isUnknown = false

        fileprivate init(_ write: SessionWrite, _ record: Bytes, _ key: Bytes, asks: Int) {
            self.write = write
            self.record = record
            self.key = key
            asksLeft = asks
        }

        /// Notes an attempt that came to nothing; whether there is to be another one.
        mutating func mayAskAgain(isUnknown: Bool) -> Bool {
            self.isUnknown = self.isUnknown || isUnknown
            guard asksLeft > 0 else { return false }
            asksLeft -= 1
            return true
        }
    }
    private let world: World
    private var random: SeededRandom
    private var id: SessionID
    private var salt: UInt32
    private var next: UInt32 = 1
    /// How far its clock is from the world's, in milliseconds.
    private let skew: Int64
    /// Writes that may come again.
    private var past: [Write] = []
    private static let mostPast = 4

    init(world: World, random: SeededRandom) {
        self.world = world
        var random = random
        skew = [0, 0, -3_000, 700, 90_000][Int(random.next() % 5)]
        let now = Int64(SimulatedClock.wallStart / 1_000_000 + world.now / 1_000_000)
        id = SessionID(openedAt: UInt64(now + skew), random: random.next())
        salt = UInt32(truncatingIfNeeded: random.next()) & SessionSequence.maxSalt
        self.random = random
    }

    mutating func rename(openAt: UInt64) {
        id = SessionID(openedAt: openAt, random: random.next())
        salt = UInt32(truncatingIfNeeded: random.next()) & SessionSequence.maxSalt
        next = 1
    }

    mutating func write(_ command: Command) -> Write? {
        let number = next
        next += 1
        // It may say that more of them wait than do: then their results are kept.
        let most = min(Int(number) - 1, SessionLimits.window - 1)
        let waiting = random.oneIn(2) ? 0 : Int(random.next() % UInt64(min(most, 5) + 1))
        let sequence = SessionSequence(salt: salt, waiting: waiting, number: number)
        guard
            let record = try? command.encoded(
                options: .init(session: (id.rawValue, sequence.rawValue)))
        else { return nil }
        return Write(
            SessionWrite(session: id.rawValue, number: number), record, command.key,
            asks: Int(random.next() % 8))
    }

    /// The write has its answer, or nobody waits for one any more. If it was refused for certain it may
    /// not come again: it would be carried out.
    mutating func isOver(_ write: Write, wasRejected: Bool) {
        guard !wasRejected, random.oneIn(2) else { return }
        past.append(write)
        if past.count > Self.mostPast { past.removeFirst() }
    }

    /// A write of the past that comes again now.
    mutating func lateCopy() -> Write? {
        guard !past.isEmpty, random.oneIn(4) else { return nil }
        return past[Int(random.next() % UInt64(past.count))]
    }
}

// The numbers that a session's writes take, and which of them may still be asked again.
//
//   number  1 2 3 4 5 6 7 8 ...
//           │ │   └ waiting: the least that has no result yet
//           └─┴─ answered or given up: regions may forget their results
//
// Invariant: a number that waits is never under what any later command says is over, in any region:
// the next number is less than a window above the least that waits.

internal import UkehiState

/// One name of a session and its numbers.
struct SessionWindow {
    let id: SessionID
    private let salt: UInt32
    private var next: UInt32
    /// Numbers without a result, ascending.
    private var waiting: [UInt32] = []

    init(id: SessionID, salt: UInt32, firstNumber: UInt32 = 1) {
        self.id = id
        self.salt = salt
        next = firstNumber
    }

    /// Whether all numbers are used up: another name is needed.
    var isSpent: Bool { next == .max }

    /// How many numbers can be taken before the least that waits is over.
    var room: Int {
        guard let least = waiting.first else { return SessionLimits.window }
        return SessionLimits.window - Int(next - least)
    }

    /// Takes the next number; there is ``room``.
    mutating func take() -> SessionSequence {
        let number = next
        next += 1
        waiting.append(number)
        return SessionSequence(
            salt: salt, waiting: Int(number - (waiting.first ?? number)), number: number)
    }

    /// The number has its result, or nobody waits for it any more.
    mutating func end(_ number: UInt32) {
        if let place = waiting.firstIndex(of: number) { waiting.remove(at: place) }
    }
}

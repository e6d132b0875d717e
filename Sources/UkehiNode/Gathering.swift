// What all lanes of a node are asked for, put together.

import Synchronization

/// Gathers what a node's lanes tell, and answers once all have told, or with the last lane that will not.
package final class Gathering<Part: Sendable>: Sendable {
    private struct Gathered {
        var missing: Int
        var parts: [Part] = []
    }
    private let state: Mutex<Gathered>
    private let sink: ReplySink
    private let tag: UInt64
    private let answer: @Sendable ([Part]) -> Reply

    /// - Parameters:
    ///   - lanes: How many will tell.
    ///   - request: Who is answered.
    ///   - answer: Makes the reply of all that was told, in any order.
    init(
        of lanes: Int, _ request: ClientRequest,
        answer: @escaping @Sendable ([Part]) -> Reply
    ) {
        state = Mutex(Gathered(missing: lanes))
        sink = request.sink
        tag = request.tag
        self.answer = answer
    }

    deinit {
        guard state.withLock({ $0.missing }) > 0 else { return }
        sink.reply(.failed(.rejected(Lane.stopping)), tag: tag)
        sink.flush()
    }

    /// One lane's share. Any thread.
    func take(_ parts: [Part]) {
        let all: [Part]? = state.withLock { state in
            state.parts += parts
            state.missing -= 1
            return state.missing == 0 ? state.parts : nil
        }
        guard let all else { return }
        sink.reply(answer(all), tag: tag)
        sink.flush()
    }
}

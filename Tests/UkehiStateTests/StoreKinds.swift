// The stores that need no library.

import UkehiState

extension StoreKind {
    static let all: [StoreKind] = [memory, crashModel]

    static let memory = StoreKind(
        name: "memory", make: { _ in StoreBox(MemoryStore()) }, isDurable: false)

    static let crashModel = StoreKind(
        name: "crash model", make: { CrashModelBox(CrashModelStore(seed: $0)) }, isDurable: true)
}

private final class CrashModelBox: StoreBox {
    private let model: CrashModelStore
    init(_ model: CrashModelStore) {
        self.model = model
        super.init(model)
    }
    override func crash() { model.crash() }
    override func flush() {
        model.requestFlush()
        model.completeFlush()
    }
}

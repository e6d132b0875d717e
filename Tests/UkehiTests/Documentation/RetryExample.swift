// The code of the article "Errors and retries".

import Ukehi

func transfer(_ store: some KeyValueStore) async throws {
    while true {
        guard let seen = try await store.get("account/7") else { return }
        do {
            let paid = try await store.compareAndSet(
                "account/7", expected: .version(seen.version), to: "paid")
            if paid != nil { return }
        } catch RequestError.outcomeUnknown {
            if try await store.get("account/7")?.value == "paid" { return }
        }
    }
}

func countVisit(_ store: some KeyValueStore) async throws -> Int64 {
    let session = store.openSession()
    try await session.put("visitor/7", "seen")
    return try await session.increment("visits", timeout: .seconds(30))
}
